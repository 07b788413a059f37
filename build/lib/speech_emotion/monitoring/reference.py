"""Summarize the training data as the reference that monitoring compares with.

The reference has distributions, no recordings, and for each the difference between two random halves of the training
data: a smaller difference is no drift.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
from pydantic import Field
from scipy import stats

from speech_emotion.config.base import Section
from speech_emotion.config.monitoring import SurveySettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import canonical_json

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


FILE: Final = "reference.json"
"""What a package calls it; a package without this file cannot be monitored."""

_QUANTILES: Final = 257
_MOST_ROWS: Final = 20_000
"""Values that a distribution is made into again; more change no verdict."""

_MOSTLY: Final = 0.95
"""Share of halvings whose halves differ by no more than is written down."""


class NumberReference(Section):
    """The distribution of a measure."""

    rows: Annotated[int, Field(ge=1)]
    quantiles: Annotated[tuple[float, ...], Field(min_length=2)]
    """At equal steps, from the smallest value to the largest."""
    halves: Annotated[float, Field(ge=0)]
    """What two random halves differ by, in 95 of 100 halvings at most."""

    def values(self, digits: int) -> np.ndarray:
        """Return values that are distributed so [shape=(n,)], as many as there were, 20,000 at most."""
        count = min(self.rows, _MOST_ROWS)
        steps = np.linspace(0, 1, len(self.quantiles))
        return np.round(np.interp((np.arange(count) + 0.5) / count, steps, self.quantiles), digits)


class ClassReference(Section):
    """The classes of a measure."""

    counts: Annotated[dict[str, int], Field(min_length=1)]
    halves: Annotated[float, Field(ge=0, le=1)]
    """As of `NumberReference`."""

    @cached_property
    def rows(self) -> int:
        """How many rows there were."""
        return sum(self.counts.values())


class Reference(Section):
    """What the training data is like, and what the packaged model says of it.

    Recordings are all of the training and validation part. Answers are those to the validation part alone: words that
    the weights were not fitted to. Their speakers were seen in training, so that confidence in them is the best case.
    """

    format: Literal[1]
    recordings: Annotated[int, Field(ge=1)]
    answers: Annotated[int, Field(ge=0)]
    numbers: dict[str, NumberReference]
    classes: dict[str, ClassReference]


def make(
    recordings: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]], settings: SurveySettings
) -> Reference:
    """Return the reference of training data.

    Parameters
    ----------
    recordings, answers : sequence of mapping
        Rows with the columns of a log (`logbook.schema`) that are about the one or the other.
    settings : SurveySettings

    Notes
    -----
    A measure of which there are fewer than four values is left out: halves of one or two say nothing.
    """
    rows = {"recordings": recordings, "answers": answers}
    numbers, classes = {}, {}
    for place, measure in enumerate(NUMBERS):
        found = [row[measure.name] for row in rows[measure.subject] if row[measure.name] is not None]
        if len(found) >= 4:
            numbers[measure.name] = _numbers(np.array(found, np.float64), settings, place)
    for place, measure in enumerate(CLASSES):
        names = [class_name(measure, row[measure.name]) for row in rows[measure.subject]]
        if len(names) >= 4:
            classes[measure.name] = _classes(names, settings, len(NUMBERS) + place)
    return Reference(format=1, recordings=len(recordings), answers=len(answers), numbers=numbers, classes=classes)


def class_name(measure: Measure, value: object) -> str:
    """Return what a class is called."""
    if measure.name == "sure":
        return "sure" if value else "not sure"
    return str(value)


def text(reference: Reference) -> str:
    """Return a reference as it lies in a package: equal references, equal bytes."""
    return canonical_json(reference.model_dump(mode="json")) + "\n"


def read(package: Path) -> Reference:
    """Return the reference that the package in a folder carries.

    Raises
    ------
    UserError
        It carries none, or a damaged one.
    """
    path = package / FILE
    if not path.is_file():
        raise UserError(
            f"{package}: this package carries no training reference ({FILE}), so there is nothing to compare with. "
            "`dvc repro package` makes a package that does; --model names another."
        )
    try:
        return Reference.model_validate_json(path.read_bytes())
    except ValueError:
        raise UserError(f"{path}: is not what the package stage wrote. Fetch the package again.") from None


def _numbers(values: np.ndarray, settings: SurveySettings, place: int) -> NumberReference:
    quantiles = np.quantile(values, np.linspace(0, 1, _QUANTILES))
    differences = [
        number_distance(values[one], values[other]) for one, other in _halvings(len(values), settings, place)
    ]
    return NumberReference(
        rows=len(values), quantiles=tuple(map(_short, quantiles)), halves=_short(np.quantile(differences, _MOSTLY))
    )


def _classes(names: list[str], settings: SurveySettings, place: int) -> ClassReference:
    column = np.array(names)
    differences = [
        share_distance(Counter(column[one].tolist()), Counter(column[other].tolist()))
        for one, other in _halvings(len(column), settings, place)
    ]
    return ClassReference(counts=dict(sorted(Counter(names).items())), halves=_short(np.quantile(differences, _MOSTLY)))


def _halvings(count: int, settings: SurveySettings, place: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the places of two random halves, again and again; a measure's own draws, whichever others there are."""
    rng = np.random.default_rng([settings.seed, place])
    orders = [rng.permutation(count) for _ in range(settings.halvings)]
    return [(order[: count // 2], order[count // 2 :]) for order in orders]


def _short(value: float) -> float:
    # finer digits are of the machine that computed them
    return float(f"{value:.6g}")
