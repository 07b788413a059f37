"""Takes nothing; gives what is compared between a period and the training data, by name, and how far apart two are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from scipy import stats

Subject: TypeAlias = Literal["recordings", "answers"]


@dataclass(frozen=True)
class Measure:
    """Something that a log has a column of.

    Attributes
    ----------
    name : str
        The column's.
    title : str
        What a person calls it.
    subject : {"recordings", "answers"}
        What it is about: recordings are compared whoever answered them, answers only with those of the same package.
    unit : str
        Of its numbers and of their distance; empty for a share.
    digits : int
        To which its numbers are rounded.
    """

    name: str
    title: str
    subject: Subject = "recordings"
    unit: str = ""
    digits: int = 0


NUMBERS: Final = (
    Measure("level_dbfs", "level", unit="dB", digits=1),
    Measure("peak_dbfs", "peak", unit="dB", digits=1),
    Measure("noise_dbfs", "noise floor", unit="dB", digits=1),
    Measure("seconds", "duration", unit="s", digits=2),
    Measure("pitch_hz", "pitch", unit="Hz"),
    Measure("pitch_range", "pitch range", unit="semitones", digits=1),
    Measure("voiced_share", "voiced share", digits=2),
    Measure("centroid_hz", "spectral centroid", unit="Hz"),
    Measure("bandwidth_hz", "bandwidth", unit="Hz"),
    Measure("confidence", "confidence", subject="answers", digits=3),
)
"""What has a distribution; the distance of two is Wasserstein's first, in the unit of the measure."""

CLASSES: Final = (
    Measure("sample_rate", "sample rate", unit="Hz"),
    Measure("channels", "channels"),
    Measure("label", "predicted shares", subject="answers"),
    Measure("sure", "sure answers", subject="answers"),
)
"""What has classes; the distance of two is that of total variation: the share that is in another class."""


def number_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return how far, on average, the values of one sample would have to be moved to give the other's distribution."""
    return float(stats.wasserstein_distance(first, second))


def share_distance(first: Mapping[str, int], second: Mapping[str, int]) -> float:
    """Return the share of one sample that would have to be in another class to give the other's shares.

    Examples
    --------
    >>> share_distance({"16000": 3, "8000": 1}, {"16000": 2})
    0.25
    """
    totals = sum(first.values()), sum(second.values())
    classes = first.keys() | second.keys()
    return sum(abs(first.get(name, 0) / totals[0] - second.get(name, 0) / totals[1]) for name in classes) / 2
