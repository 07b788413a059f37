"""The section `promote` of params.yaml: the gates that a version passes before it becomes champion."""

from collections.abc import Collection
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field

from speech_emotion.config.base import Section
from speech_emotion.config.data import Protocol

Mode: TypeAlias = Literal["enforce", "dry_run", "off"]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class ProtocolGates(Section):
    """Limits of one protocol, for the mean over its folds; null: no gate."""

    uar: Share | None
    """At least."""
    ece: Share | None
    """At most."""
    recall: Share | None
    """At least, for every emotion."""
    drop: Share | None
    """At most: the loss of UAR under the worst condition of the robustness table."""


class ProtocolsGates(Section):
    """Limits by protocol; a protocol that is left out has no gates."""

    random: ProtocolGates | None = None
    word: ProtocolGates | None = None
    speaker: ProtocolGates | None = None
    corpus: ProtocolGates | None = None
    full: ProtocolGates | None = None


class PromoteSettings(Section):
    """The gates of `speech-emotion promote`."""

    mode: Mode
    corpus: str
    """The corpus whose metrics the limits below come from; for another corpus, they are skipped."""
    protocols: ProtocolsGates
    against_champion: tuple[Protocol, ...]
    """Protocols in which a version must not be worse than the champion beyond the paired 95 % interval."""
    latency_ms: Annotated[float, Field(gt=0)] | None
    """The median latency on the model's example, at most."""
    package_mb: Annotated[float, Field(gt=0)] | None
    """The size of the package in 10^6 bytes, at most."""
    card: bool
    """Whether the package must have a model card."""
    head: bool
    """Whether package, data and settings must be those of HEAD's dvc.lock."""

    def applied_to(self, corpus: str, protocols: Collection[str]) -> Self:
        """Return the gates for a corpus: without limits of another corpus, and of protocols that it leaves out."""
        kept = {name for name, _ in self.protocols if corpus == self.corpus and name in protocols}
        limits = ProtocolsGates(**{name: limit for name, limit in self.protocols if name in kept})
        against = tuple(name for name in self.against_champion if name in protocols)
        return self.model_copy(update={"protocols": limits, "against_champion": against})
