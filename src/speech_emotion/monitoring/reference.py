"""Takes what was measured of the training data; gives the reference that a package carries, and reads it again.

It holds distributions, not recordings, and with each of them how much two random halves of the training data differ:
what is no larger than that is no news.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from speech_emotion.errors import UserError
from speech_emotion.files import canonical_json
from speech_emotion.monitoring.measures import CLASSES, NUMBERS, Measure, number_distance, share_distance
from speech_emotion.settings.base import Section
from speech_emotion.settings.survey import SurveySettings

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
    the weights were not fitted to. Their voices were heard in training, so that confidence in them is the best case.
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
