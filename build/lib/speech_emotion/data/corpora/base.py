"""The interface of a corpus."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Utterance:
    """One recording of the raw tree, and what its corpus says about it.

    Attributes
    ----------
    path : Path
        Relative to the raw tree.
    speaker, emotion : str
        Labels as the corpus spells them; a corpus without speakers has "".
    text : str
        What is said, or "".
    part : str
        "train", "validation" or "test" where the corpus comes with a split of its own, else "".
    """

    path: Path
    speaker: str
    emotion: str
    text: str = ""
    part: str = ""


@dataclass(frozen=True)
class CorpusState:
    """What a kind of corpus is, and whether its recordings are on this machine.

    Attributes
    ----------
    kind : str
        As in `corpus.kind` of params.yaml.
    title, licence : str
        What it is, and on what terms it may be used.
    state : str
        Where its recordings are, or how they come here.
    """

    kind: str
    title: str
    licence: str
    state: str


class Corpus(Protocol):
    """Where utterances come from."""

    @property
    def kind(self) -> str:
        """As in `corpus.kind` of params.yaml."""

    def fetch(self, raw: Path) -> None:
        """Fill the folder `raw` with the recordings, byte for byte as they came: all of them, or none.

        Raises
        ------
        UserError
            They are not to be had, or not whole.
        """

    def utterances(self, raw: Path) -> list[Utterance]:
        """Return what lies in `raw`, ordered by path, each recording once.

        Raises
        ------
        UserError
            Something in `raw` is not as `fetch` leaves it.
        """
