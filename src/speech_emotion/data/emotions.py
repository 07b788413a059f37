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
"""Names of the same emotion, the preferred one first."""


def usual_names(label: str) -> tuple[str, ...]:
    """Return the usual names of a label's emotion, or () if the label is none of them."""
    plain = re.sub(r"[\s-]+", "_", label).casefold()
    return next((names for names in _NAMES if plain in names), ())


def common_names(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return one name for labels that corpora spell differently: the preferred one of those in use.

    `labels` are pairs of corpus and label. No name of an emotion is changed if a corpus has two of them.
    """
    by_emotion: dict[tuple[str, ...], set[tuple[str, str]]] = {}
    for corpus, label in labels:
        by_emotion.setdefault(usual_names(label) or (label.casefold(),), set()).add((corpus, label))
    common: dict[str, str] = {}
    for names, same in by_emotion.items():
        spellings = {label for _, label in same}
        if len(spellings) > 1 and len({corpus for corpus, _ in same}) == len(same):
            chosen = next((name for name in names if name in spellings), names[0])
            common |= {label: chosen for label in spellings if label != chosen}
    return common
