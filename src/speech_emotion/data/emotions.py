"""Usual names of emotions, to find labels that mean the same."""

import re
from collections.abc import Iterable
from typing import Final

_NAMES: Final = (
    ("angry", "anger", "ang"),
    ("annoyed", "annoyance"),
    ("anxious", "anxiety"),
    ("boredom", "bored"),
    ("calm", "calmness"),
    ("contempt",),
    ("disgust", "disgusted", "dis"),
    ("excited", "excitement", "excite"),
    ("fear", "fearful", "fea"),
    ("frustrated", "frustration", "fru"),
    ("happy", "happiness", "hap"),
    ("joy", "joyful"),
    ("neutral", "neu"),
    ("pleasant_surprise", "pleasant_surprised", "surprise", "surprised", "sur", "ps"),
    ("sad", "sadness"),
)
"""Names of the same emotion; the first is that of the published corpora."""


def usual_names(label: str) -> tuple[str, ...]:
    """Return the usual names of a label's emotion, or () if the label is none of them."""
    plain = re.sub(r"[\s-]+", "_", label).casefold()
    return next((names for names in _NAMES if plain in names), ())


def common_names(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return one name for labels that corpora spell differently.

    `labels` are pairs of corpus and label. Labels stay apart if a corpus has two of an emotion's names.
    """
    labels = set(labels)
    common: dict[str, str] = {}
    for names in _NAMES:
        same = [(corpus, label) for corpus, label in labels if usual_names(label) is names]
        spellings = {label for _, label in same}
        if len(spellings) > 1 and len({corpus for corpus, _ in same}) == len(same):
            common |= {label: names[0] for label in spellings if label != names[0]}
    return common
