"""Recognise corpora by the names of their recordings, and read the labels from those names."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from speech_emotion.data.corpora.base import Utterance


@dataclass(frozen=True)
class NameScheme:
    """How a corpus names its recordings; `pattern` matches the end of a path without suffix."""

    title: str
    pattern: str
    emotions: Mapping[str, str]

    def parse(self, path: Path) -> Utterance | None:
        """Return what the name of a recording says; None if it is not of this corpus."""
        match = re.fullmatch(rf"(?:.*/)?{self.pattern}", path.with_suffix("").as_posix())
        if match is None:
            return None
        return Utterance(path, match["speaker"], self.emotions[match["emotion"]], match["text"])


SCHEMES: Final = (
    NameScheme(
        "RAVDESS",
        r"0[1-3]-0[12]-(?P<emotion>0[1-8])-0[12]-(?P<text>0[12])-0[12]-(?P<speaker>\d\d)",
        {
            "01": "neutral",
            "02": "calm",
            "03": "happy",
            "04": "sad",
            "05": "angry",
            "06": "fearful",
            "07": "disgust",
            "08": "surprised",
        },
    ),
    NameScheme(
        "CREMA-D",
        r"(?P<speaker>1\d{3})_(?P<text>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?:LO|MD|HI|XX?)",
        {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"},
    ),
    NameScheme(
        "EmoDB",
        r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<emotion>[AEFLNTW])[a-z]",
        {"A": "fear", "E": "disgust", "F": "happy", "L": "boredom", "N": "neutral", "T": "sad", "W": "angry"},
    ),
    NameScheme(
        "SAVEE",
        r"(?P<speaker>DC|JE|JK|KL)[_/](?P<text>(?P<emotion>a|d|f|h|n|sa|su)\d\d)",
        {"a": "angry", "d": "disgust", "f": "fear", "h": "happy", "n": "neutral", "sa": "sad", "su": "surprise"},
    ),
)


def recognise(recordings: Iterable[Path]) -> tuple[str, list[Utterance]] | None:
    """Return a corpus's name and utterances if all recordings are named as it names them."""
    paths = list(recordings)
    for scheme in SCHEMES:
        utterances = [one for path in paths if (one := scheme.parse(path)) is not None]
        if paths and len(utterances) == len(paths):
            return scheme.title, utterances
    return None
