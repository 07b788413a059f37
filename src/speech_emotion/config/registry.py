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
    ece: Share | None
    recall: Share | None
    drop: Share | None


class PromoteSettings(Section):
    """The gates of `speech-emotion promote`."""

    mode: Mode
    corpus: str
    protocols: dict[Protocol, ProtocolGates | None]
    against_champion: tuple[Protocol, ...]
    latency_ms: Annotated[float, Field(gt=0)] | None
    package_mb: Annotated[float, Field(gt=0)] | None
    card: bool
    head: bool

    def applied_to(self, corpus: str, protocols: Collection[str]) -> Self:
        """Return the gates for a corpus: without limits of another corpus, and of protocols that it leaves out."""
        kept = protocols if corpus == self.corpus else ()
        limits = {name: limit for name, limit in self.protocols.items() if name in kept}
        against = tuple(name for name in self.against_champion if name in protocols)
        return self.model_copy(update={"protocols": limits, "against_champion": against})
