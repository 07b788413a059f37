"""Find what changed between the training data and a period of the prediction log.

A measure has drifted if the difference is significant and large. Significant: two-sample Kolmogorov-Smirnov test of
numbers, chi-square test of classes, with Benjamini-Yekutieli correction. Large: larger than the difference between two
random halves of the training data, and than a threshold in params.yaml. In a large log every difference is significant.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import stats

from speech_emotion.config.monitoring import MonitorSettings
from speech_emotion.models.package import Package
from speech_emotion.monitoring.prediction_log import Period
from speech_emotion.monitoring.reference import (
    CLASSES,
    NUMBERS,
    ClassReference,
    Measure,
    NumberReference,
    Reference,
    Subject,
    class_name,
    number_distance,
    share_distance,
)

if TYPE_CHECKING:
    import pyarrow as pa


_NINETY_FIVE: Final = (0.025, 0.975)
_EXPECTED: Final = 5.0
"""Rows that chi-square wants to expect in a class (Cochran, 1954); smaller classes are counted together."""


class Verdict(StrEnum):
    """What is said of a measure."""

    moved = "moved"
    steady = "steady"
    too_few = "too few rows"


@dataclass(frozen=True)
class Finding:
    """What became of a measure.

    Attributes
    ----------
    measure : Measure
    verdict : Verdict
    rows : int
        Of the period, that have it.
    focus : str
        The class whose share changed most; empty for numbers.
    before, after : float
        The median of numbers, the share of the class; in the reference and in the period.
    low, high : float
        The 95 % interval of the difference, by the bootstrap.
    distance : float
        Between the two distributions; see `measures`.
    limit : float
        That the distance must exceed.
    p : float
        Of the test, corrected.
    """

    measure: Measure
    verdict: Verdict
    rows: int
    focus: str = ""
    before: float = float("nan")
    after: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    distance: float = float("nan")
    limit: float = float("nan")
    p: float = float("nan")

    @property
    def change(self) -> float:
        """By how much the median or the share is higher than in the reference."""
        return self.after - self.before


@dataclass(frozen=True)
class Drift:
    """A period, held against the training reference.

    Attributes
    ----------
    findings : tuple of Finding
        What moved first, the least likely of it on top.
    recordings : int
        Rows of the period.
    answers : int
        Those of them that the package answered.
    """

    findings: tuple[Finding, ...]
    recordings: int
    answers: int

    @property
    def moved(self) -> tuple[Finding, ...]:
        """What has moved."""
        return tuple(one for one in self.findings if one.verdict is Verdict.moved)

    @property
    def too_few(self) -> tuple[Finding, ...]:
        """What there were too few rows for."""
        return tuple(one for one in self.findings if one.verdict is Verdict.too_few)


@dataclass(frozen=True)
class Samples:
    """The columns of a period, ready to be compared.

    Attributes
    ----------
    numbers : mapping of str to np.ndarray [shape=(n,)], float64
        By measure; rows that lack it are left out.
    classes : mapping of str to mapping of str to int
        Rows of each class, by measure.
    """

    numbers: Mapping[str, np.ndarray]
    classes: Mapping[str, Mapping[str, int]]
    recordings: int
    answers: int


def samples(rows: "pa.Table", digest: str) -> Samples:
    """Return the columns of a log's rows; answers of other packages than the one of this digest are left out."""
    import pyarrow.compute as pc

    own = {"recordings": rows, "answers": rows.filter(pc.equal(rows["package_digest"], digest))}
    numbers = {
        measure.name: np.round(
            own[measure.subject][measure.name].drop_null().to_numpy().astype(np.float64), measure.digits
        )
        for measure in NUMBERS
    }
    classes = {
        measure.name: Counter(
            {
                class_name(measure, pair["values"].as_py()): pair["counts"].as_py()
                for pair in own[measure.subject][measure.name].value_counts()
            }
        )
        for measure in CLASSES
    }
    return Samples(numbers, classes, len(rows), len(own["answers"]))


def compare(found: Samples, reference: Reference, settings: MonitorSettings) -> Drift:
    """Hold a period against the training reference.

    Parameters
    ----------
    found : Samples
    reference : Reference
    settings : MonitorSettings
    """
    enough: dict[Subject, bool] = {
        "recordings": found.recordings >= settings.rows,
        "answers": found.answers >= settings.rows,
    }
    findings: list[Finding] = []
    for place, measure in enumerate((*NUMBERS, *CLASSES)):
        rng = np.random.default_rng([settings.seed, place])
        if measure.name in reference.numbers:
            values = found.numbers[measure.name]
            if not enough[measure.subject] or len(values) < settings.rows:
                findings.append(Finding(measure, Verdict.too_few, len(values)))
            else:
                findings.append(_of_numbers(measure, values, reference.numbers[measure.name], settings, rng))
        elif measure.name in reference.classes:
            counts = found.classes[measure.name]
            if not enough[measure.subject]:
                findings.append(Finding(measure, Verdict.too_few, sum(counts.values())))
            else:
                findings.append(_of_classes(measure, counts, reference.classes[measure.name], settings, rng))
    return Drift(tuple(sorted(_judged(findings, settings), key=_order)), found.recordings, found.answers)


def _judged(findings: list[Finding], settings: MonitorSettings) -> list[Finding]:
    """Return the findings with corrected p-values and verdicts."""
    tested = [number for number, one in enumerate(findings) if one.verdict is not Verdict.too_few]
    if not tested:
        return findings
    corrected = stats.false_discovery_control([findings[number].p for number in tested], method="by")
    judged = list(findings)
    for number, p in zip(tested, corrected.tolist(), strict=True):
        one = findings[number]
        moved = p <= settings.false_discovery and one.distance > one.limit
        judged[number] = replace(one, p=p, verdict=Verdict.moved if moved else Verdict.steady)
    return judged


def _order(one: Finding) -> tuple[bool, float, float]:
    """Return where a finding stands: what moved first, and of that what moved most beyond its limit."""
    moved = one.verdict is Verdict.moved
    excess = one.distance / max(one.limit, 1e-9) if one.verdict is not Verdict.too_few else 0.0
    return not moved, -excess, one.p if moved else 0.0


def _of_numbers(
    measure: Measure,
    values: np.ndarray,
    reference: NumberReference,
    settings: MonitorSettings,
    rng: np.random.Generator,
) -> Finding:
    known = reference.values(measure.digits)
    low, high = _interval(values, known, settings.draws, rng)
    return Finding(
        measure,
        Verdict.steady,
        len(values),
        before=float(np.median(known)),
        after=float(np.median(values)),
        low=low,
        high=high,
        distance=number_distance(values, known),
        limit=max(settings.halves * reference.halves, getattr(settings.least, measure.name)),
        p=float(stats.ks_2samp(values, known, method="asymp").pvalue),
    )


def _interval(values: np.ndarray, known: np.ndarray, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % interval of the difference of medians."""
    low, high = np.quantile(_medians(values, draws, rng) - _medians(known, draws, rng), _NINETY_FIVE)
    return float(low), float(high)


def _medians(values: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the medians of samples that are drawn anew from one, with replacement [shape=(draws,)].

    The rank of such a median has a beta distribution (Maritz and Jarrett, 1978): no sample has to be drawn for it.
    """
    ordered, count = np.sort(values), len(values)
    places = rng.beta((count + 1) / 2, (count + 1) / 2, draws) * count
    return ordered[np.minimum(places.astype(np.int64), count - 1)]


def _of_classes(
    measure: Measure,
    counts: Mapping[str, int],
    reference: ClassReference,
    settings: MonitorSettings,
    rng: np.random.Generator,
) -> Finding:
    rows, known = sum(counts.values()), reference.rows
    shares = {
        name: (reference.counts.get(name, 0) / known, counts.get(name, 0) / rows)
        for name in sorted(counts.keys() | reference.counts.keys())
    }
    focus = max(shares, key=lambda name: abs(shares[name][1] - shares[name][0]))
    before, after = shares[focus]
    drawn = rng.binomial(rows, after, settings.draws) / rows - rng.binomial(known, before, settings.draws) / known
    low, high = np.quantile(drawn, _NINETY_FIVE)
    return Finding(
        measure,
        Verdict.steady,
        rows,
        focus=focus,
        before=before,
        after=after,
        low=float(low),
        high=float(high),
        distance=share_distance(counts, reference.counts),
        limit=max(settings.halves * reference.halves, settings.least.shares),
        p=_chi_square(counts, reference.counts),
    )


def _chi_square(counts: Mapping[str, int], known: Mapping[str, int]) -> float:
    """Return the p-value of the hypothesis that both have the same shares."""
    classes = sorted(counts.keys() | known.keys())
    table = np.array([[row.get(name, 0) for name in classes] for row in (counts, known)])
    expected = stats.contingency.expected_freq(table)
    rare = expected.min(axis=0) < _EXPECTED
    if rare.sum() > 1:
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    if table.shape[1] == 1:
        return 1.0
    return float(stats.chi2_contingency(table, correction=False).pvalue)


COLUMNS: Final = ("measure", "verdict", "training", "period", "change", "95 %", "distance", "counts from", "p", "rows")
"""What `cells` gives."""

_CLASSES: Final = frozenset(measure.name for measure in CLASSES)


def amount(finding: Finding, value: float, *, signed: bool = False, unit: bool = True) -> str:
    """Return a number of a measure as a person writes it: `-23.4 dB`, `12 %`."""
    measure = finding.measure
    sign = "+" if signed else ""
    if measure.name in _CLASSES:
        return f"{100 * value:{sign}.1f}{(' points' if signed else ' %') if unit else ''}"
    digits = max(measure.digits, 1) if abs(value) < 10 and measure.unit == "Hz" else measure.digits
    return f"{value:{sign}.{digits}f}{f' {measure.unit}' if unit and measure.unit else ''}"


def probability(p: float) -> str:
    """Return a p-value; a small one by its bound, below which it means nothing more."""
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def named(finding: Finding) -> str:
    """Return a measure's title, and the class that is meant."""
    if not finding.focus:
        return finding.measure.title
    unit = " Hz" if finding.measure.unit else ""
    return f"{finding.measure.title} ({finding.focus.replace('_', ' ')}{unit})"


def cells(finding: Finding) -> tuple[str, ...]:
    """Return a row of the table."""
    if finding.verdict is Verdict.too_few:
        return (finding.measure.title, finding.verdict, *[""] * 7, str(finding.rows))
    return (
        named(finding),
        finding.verdict,
        amount(finding, finding.before),
        amount(finding, finding.after),
        amount(finding, finding.change, signed=True),
        f"{amount(finding, finding.low, signed=True, unit=False)} to {amount(finding, finding.high, signed=True)}",
        amount(finding, finding.distance),
        amount(finding, finding.limit),
        probability(finding.p),
        str(finding.rows),
    )


def sentence(finding: Finding) -> str:
    """Return what moved in a sentence."""
    what = "share" if finding.focus else "median"
    return (
        f"{named(finding)}: {what} {amount(finding, finding.before)} in training, {amount(finding, finding.after)} now "
        f"({amount(finding, finding.change, signed=True)}; 95 % interval "
        f"{amount(finding, finding.low, signed=True, unit=False)} to {amount(finding, finding.high, signed=True)}; "
        f"p {probability(finding.p)})"
    )


def summary(drift: Drift, settings: MonitorSettings) -> str:
    """Return the verdict on the whole period, a line a fact."""
    lines = [f"{drift.recordings} rows, {drift.answers} of them answered by this package."]
    if drift.moved:
        lines.append(f"moved: {', '.join(one.measure.title for one in drift.moved)}.")
    if drift.too_few:
        names = ", ".join(one.measure.title for one in drift.too_few)
        lines.append(f"too few rows to tell (at least {settings.rows} are asked for): {names}.")
    if not drift.moved and len(drift.too_few) < len(drift.findings):
        lines.append("nothing has moved." if not drift.too_few else "nothing else has moved.")
    return "\n".join(lines)


def content(drift: Drift, reference: Reference, *, package: Package, period: Period) -> dict[str, Any]:
    """Return all of it, ready for JSON; what is not known is null."""
    return {
        "package_digest": package.digest,
        "since": None if period.since is None else period.since.isoformat(),
        "until": None if period.until is None else period.until.isoformat(),
        "rows": {"recordings": drift.recordings, "answers": drift.answers},
        "reference": {"recordings": reference.recordings, "answers": reference.answers},
        "moved": [one.measure.name for one in drift.moved],
        "too_few_rows": [one.measure.name for one in drift.too_few],
        "measures": {one.measure.name: _measure(one) for one in drift.findings},
    }


def _measure(finding: Finding) -> dict[str, Any]:
    numbers = {
        "before": finding.before,
        "after": finding.after,
        "change": finding.change,
        "low": finding.low,
        "high": finding.high,
        "distance": finding.distance,
        "limit": finding.limit,
        "p": finding.p,
    }
    return {
        "title": finding.measure.title,
        "unit": finding.measure.unit if finding.measure.name not in _CLASSES else "share",
        "verdict": finding.verdict.value,
        "class": finding.focus or None,
        "rows": finding.rows,
        **{name: None if math.isnan(value) else round(value, 6) for name, value in numbers.items()},
    }
