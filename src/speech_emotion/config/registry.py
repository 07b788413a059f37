"""The section `promote`: the gates that a version passes before it becomes champion."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from speech_emotion.config.base import Section

Mode: TypeAlias = Literal["enforce", "dry run", "off"]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Protocol: TypeAlias = Literal["random", "word", "speaker", "full"]


class ProtocolGates(Section):
    """Limits of one protocol's figures, of the mean over its folds; null: not asked."""

    uar: Share | None
    """At least."""
    ece: Share | None
    """At most."""
    recall: Share | None
    """At least, for every emotion."""
    drop: Share | None
    """At most: what UAR loses under the worst of the conditions of the robustness table."""


class ProtocolsGates(Section):
    """A protocol that is left out is not asked about."""

    random: ProtocolGates | None = None
    word: ProtocolGates | None = None
    speaker: ProtocolGates | None = None
    full: ProtocolGates | None = None


class PromoteSettings(Section):
    """What `speech-emotion promote` asks."""

    mode: Mode
    protocols: ProtocolsGates
    against_champion: tuple[Protocol, ...]
    """Protocols in which a version must not be worse than the champion beyond the paired 95 % interval."""
    latency_ms: Annotated[float, Field(gt=0)] | None
    """The median answer to the model's example, at most."""
    package_mb: Annotated[float, Field(gt=0)] | None
    """At most, in 10^6 bytes."""
    card: bool
    """Whether the package must hold a model card."""
    head: bool
    """Whether package, data and settings must be those of HEAD's dvc.lock."""
