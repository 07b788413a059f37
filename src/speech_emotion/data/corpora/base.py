"""The interface of a corpus, and what the package licence and the model card say about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Utterance:
    """A recording, its path in the raw tree, and its labels as the corpus spells them.

    `speaker` and `text`, the words spoken, are "" if unknown. `part` is "train", "validation" or "test" if the corpus
    has a split of its own, else "". `corpus` is the corpus of a mix, else "". `sex` is that of the speaker, "female" or
    "male", or "" if unknown.
    """

    path: Path
    speaker: str
    emotion: str
    text: str = ""
    part: str = ""
    corpus: str = ""
    sex: str = ""


@dataclass(frozen=True)
class CorpusFacts:
    """What a corpus is and what a model trained on it may be used for, from facts.toml. Texts are Markdown.

    `weights_licence` is for LICENSE.md of the package. The last four are sentences of the model card: the limit that
    matters most, all limits, the data, and the licence.
    """

    title: str
    licence: str
    not_here: str
    weights_licence: str
    caveat: str
    limits: str
    data: str
    card_licence: str


class Corpus(Protocol):
    """A source of utterances. Both methods raise `UserError` if recordings are missing or altered."""

    @property
    def kind(self) -> str:
        """As in `corpus.kind` of params.yaml."""

    def fetch(self, raw: Path) -> None:
        """Fill the folder `raw` with the recordings, byte for byte: all of them, or none."""

    def utterances(self, raw: Path) -> list[Utterance]:
        """Return the utterances in `raw`, ordered by path."""
