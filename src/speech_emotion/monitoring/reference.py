"""Summarize the training data as the reference that monitoring compares with.

The reference holds distributions, not recordings, and for each the difference between two random halves of the training
data: a smaller difference is no drift.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field
from scipy import stats

from speech_emotion.config.base import Section
from speech_emotion.config.monitoring import ReferenceDataSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import canonical_json, open_regular_file


@dataclass(frozen=True)
class Measure:
    """A column of the log that is compared."""

    name: str
    title: str
    subject: Literal["recordings", "answers"] = "recordings"
    """Recordings are compared whichever package predicted them, answers only if it was this package."""
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
"""Measures with a distribution, compared by `number_distance`."""

CLASSES: Final = (
    Measure("sample_rate", "sample rate", unit="Hz"),
    Measure("channels", "channels"),
    Measure("label", "predicted shares", subject="answers"),
    Measure("sure", "sure answers", subject="answers"),
)
"""Measures with classes, compared by `share_distance`."""


def number_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return Wasserstein's first distance of two samples, in their unit."""
    return float(stats.wasserstein_distance(first, second))


def share_distance(first: Mapping[str, int], second: Mapping[str, int]) -> float:
    """Return the total variation distance: half the sum of the differences of the shares."""
    totals = sum(first.values()), sum(second.values())
    classes = first.keys() | second.keys()
    return sum(abs(first.get(name, 0) / totals[0] - second.get(name, 0) / totals[1]) for name in classes) / 2


FILE: Final = "reference.json"
"""The file in the package."""

_QUANTILES: Final = 257
_MOST_ROWS: Final = 20_000
"""Values that a stored distribution is expanded to."""

_MOSTLY: Final = 0.95
"""Quantile of the differences between halves."""


class NumberReference(Section):
    """The distribution of a measure."""

    rows: Annotated[int, Field(ge=1)]
    quantiles: Annotated[tuple[float, ...], Field(min_length=2)]
    """At equal steps, from minimum to maximum."""
    halves: Annotated[float, Field(ge=0)]
    """Distance of two random halves, 95 % quantile."""

    def values(self, digits: int) -> np.ndarray:
        """Return values with this distribution [shape=(n,)]."""
        count = min(self.rows, _MOST_ROWS)
        steps = np.linspace(0, 1, len(self.quantiles))
        return np.round(np.interp((np.arange(count) + 0.5) / count, steps, self.quantiles), digits)


class ClassReference(Section):
    """The classes of a measure."""

    counts: Annotated[dict[str, int], Field(min_length=1)]
    halves: Annotated[float, Field(ge=0, le=1)]
    """See `NumberReference`."""


class Reference(Section):
    """Statistics of the training and validation recordings, and of predictions of the packaged model.

    These are of the test speakers or, if there are none, of the validation part. If its speakers were seen in training,
    the confidence is the best case.
    """

    format: Literal[1]
    recordings: Annotated[int, Field(ge=1)]
    answers: Annotated[int, Field(ge=0)]
    numbers: dict[str, NumberReference]
    classes: dict[str, ClassReference]

    def values(self, measure: Measure) -> np.ndarray:
        """Return values with the distribution of a measure [shape=(n,)]."""
        if measure.name in self.numbers:
            return self.numbers[measure.name].values(measure.digits)
        counts = self.classes[measure.name].counts
        return np.repeat(list(counts), list(counts.values()))


def make(
    recordings: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]], settings: ReferenceDataSettings
) -> Reference:
    """Return the reference of training data, from rows with columns of a log.

    A measure with fewer than four values is left out.
    """
    rows = {"recordings": recordings, "answers": answers}
    numbers, classes = {}, {}
    for place, measure in enumerate((*NUMBERS, *CLASSES)):
        found = [row[measure.name] for row in rows[measure.subject] if row[measure.name] is not None]
        rng = np.random.default_rng([settings.seed, place])
        if len(found) < 4:
            continue
        if measure in NUMBERS:
            values = np.array(found, np.float64)
            quantiles = tuple(map(_short, np.quantile(values, np.linspace(0, 1, _QUANTILES))))
            halves = _halves_distance(values, number_distance, settings.halvings, rng)
            numbers[measure.name] = NumberReference(rows=len(values), quantiles=quantiles, halves=halves)
        else:
            values = np.array([class_name(measure, value) for value in found])
            halves = _halves_distance(values, _class_distance, settings.halvings, rng)
            classes[measure.name] = ClassReference(counts=_counts(values), halves=halves)
    return Reference(format=1, recordings=len(recordings), answers=len(answers), numbers=numbers, classes=classes)


def class_name(measure: Measure, value: object) -> str:
    """Return the name of a class."""
    if measure.name == "sure":
        return "sure" if value else "not sure"
    return str(value)


def text(reference: Reference) -> str:
    """Return the content of `FILE`; equal references give equal bytes."""
    return canonical_json(reference.model_dump(mode="json")) + "\n"


def read(package: Path) -> Reference:
    """Return the reference in a package; raises UserError if it is missing or damaged."""
    path = package / FILE
    try:
        with open_regular_file(path) as file:
            return Reference.model_validate_json(file.read())
    except FileNotFoundError:
        raise UserError(
            f"{package}: the package has no training reference ({FILE}) to compare with. Make one with "
            "`dvc repro package`, or choose another --model."
        ) from None
    except (OSError, ValueError):
        raise UserError(f"{path}: damaged or unreadable. Fetch the package again.") from None


def _halves_distance(
    values: np.ndarray, distance: Callable[..., float], halvings: int, rng: np.random.Generator
) -> float:
    """Return the 95 % quantile of the distance of two random halves."""
    half = len(values) // 2
    orders = [rng.permutation(len(values)) for _ in range(halvings)]
    distances = [distance(values[order[:half]], values[order[half:]]) for order in orders]
    return _short(np.quantile(distances, _MOSTLY))


def _class_distance(one: np.ndarray, other: np.ndarray) -> float:
    return share_distance(_counts(one), _counts(other))


def _counts(names: np.ndarray) -> dict[str, int]:
    return dict(sorted(Counter(names.tolist()).items()))


def _short(value: float) -> float:
    # further digits depend on the machine
    return float(f"{value:.6g}")
