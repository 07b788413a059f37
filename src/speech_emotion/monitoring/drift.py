"""Find what changed between the training data and a period of the prediction log.

A measure has drifted if the difference is significant and large. Significant: two-sample Kolmogorov-Smirnov test of
numbers, chi-square test of classes, with Benjamini-Yekutieli correction. Large: larger than the difference between two
random halves of the training data, and than a threshold in params.yaml. In a large log every difference is significant.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from scipy import stats

from speech_emotion.config.monitoring import MonitorSettings
from speech_emotion.monitoring.reference import (
    CLASSES,
    NUMBERS,
    Measure,
    NumberReference,
    Reference,
    class_name,
    number_distance,
    share_distance,
)

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: Final = (
    *("measure", "class", "unit", "verdict", "training", "period", "change", "low", "high"),
    *("distance", "limit", "p", "rows"),
)
"""Columns of the table; `low` and `high` bound the 95 % interval of the change."""

_INTERVAL: Final = (0.025, 0.975)
_EXPECTED: Final = 5.0
"""Expected rows per class that the chi-square test needs (Cochran, 1954); smaller classes are pooled."""


Verdict = Literal["drifted", "no drift", "too few rows"]


@dataclass(frozen=True)
class Finding:
    """Comparison of one measure; numbers are NaN if there are too few rows."""

    measure: Measure
    verdict: Verdict
    rows: int
    focus: str = ""
    """The class whose share changed most; empty for numbers."""
    training: float = math.nan
    """Median of numbers or share of the class; `period`: likewise."""
    period: float = math.nan
    low: float = math.nan
    """Bootstrap 95 % interval of the change, to `high`."""
    high: float = math.nan
    distance: float = math.nan
    """Of the two distributions; drift exceeds `limit`."""
    limit: float = math.nan
    p: float = math.nan
    """Corrected p-value."""

    @property
    def change(self) -> float:
        """Difference of the medians or shares."""
        return self.period - self.training


@dataclass(frozen=True)
class Drift:
    """Comparison of a period with the training data; drifted measures first, the largest drift on top."""

    findings: tuple[Finding, ...]
    recordings: int
    """Rows of the period."""
    answers: int
    """Rows predicted by this package."""

    def having(self, verdict: Verdict) -> list[Finding]:
        """Return the findings with a verdict."""
        return [one for one in self.findings if one.verdict == verdict]


def columns(rows: "pa.Table", digest: str) -> dict[str, np.ndarray]:
    """Return the values of each measure in a log; predictions of packages with another digest are left out."""
    import pyarrow.compute as pc

    own = {"recordings": rows, "answers": rows.filter(pc.equal(rows["package_digest"], digest))}
    found = {one.name: own[one.subject][one.name].drop_null() for one in (*NUMBERS, *CLASSES)}
    return {
        **{one.name: np.round(found[one.name].to_numpy().astype(np.float64), one.digits) for one in NUMBERS},
        **{one.name: np.array([class_name(one, value) for value in found[one.name].to_pylist()]) for one in CLASSES},
    }


def compare(period: Mapping[str, np.ndarray], reference: Reference, settings: MonitorSettings) -> Drift:
    """Compare the columns of a period with the training data."""
    tested, too_few = [], []
    for place, measure in enumerate((*NUMBERS, *CLASSES)):
        known = reference.numbers.get(measure.name) or reference.classes.get(measure.name)
        values = period[measure.name]
        if known is None:
            continue
        if len(values) < settings.rows:
            too_few.append(Finding(measure, "too few rows", len(values)))
            continue
        rng = np.random.default_rng([settings.seed, place])
        if isinstance(known, NumberReference):
            result = _compare_numbers(values, known.values(measure.digits), settings.draws, rng)
            least = getattr(settings.least, measure.name)
        else:
            result = _compare_classes(Counter(values.tolist()), known.counts, settings.draws, rng)
            least = settings.least.shares
        limit = max(settings.halves * known.halves, least)
        tested.append(Finding(measure, "no drift", len(values), limit=limit, **result))
    if tested:
        corrected = stats.false_discovery_control([one.p for one in tested], method="by").tolist()
        for place, (one, p) in enumerate(zip(tested, corrected, strict=True)):
            is_drifted = p <= settings.false_discovery and one.distance > one.limit
            tested[place] = replace(one, p=p, verdict="drifted" if is_drifted else "no drift")
        tested.sort(key=lambda one: (one.verdict != "drifted", -one.distance / max(one.limit, 1e-9)))
    return Drift((*tested, *too_few), len(period["sample_rate"]), len(period["sure"]))


def _compare_numbers(values: np.ndarray, known: np.ndarray, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    low, high = np.quantile(_medians(values, draws, rng) - _medians(known, draws, rng), _INTERVAL).tolist()
    return {
        "training": float(np.median(known)),
        "period": float(np.median(values)),
        "low": low,
        "high": high,
        "distance": number_distance(values, known),
        "p": float(stats.ks_2samp(values, known, method="asymp").pvalue),
    }


def _medians(values: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return medians of bootstrap samples [shape=(draws,)].

    The rank of such a median has a beta distribution (Maritz and Jarrett, 1978), so no sample is drawn.
    """
    ordered, count = np.sort(values), len(values)
    places = rng.beta((count + 1) / 2, (count + 1) / 2, draws) * count
    return ordered[np.minimum(places.astype(np.int64), count - 1)]


def _compare_classes(
    counts: Mapping[str, int], known: Mapping[str, int], draws: int, rng: np.random.Generator
) -> dict[str, Any]:
    rows, known_rows = sum(counts.values()), sum(known.values())
    shares = {
        name: (known.get(name, 0) / known_rows, counts.get(name, 0) / rows)
        for name in sorted(counts.keys() | known.keys())
    }
    focus = max(shares, key=lambda name: abs(shares[name][1] - shares[name][0]))
    before, after = shares[focus]
    drawn = rng.binomial(rows, after, draws) / rows - rng.binomial(known_rows, before, draws) / known_rows
    low, high = np.quantile(drawn, _INTERVAL).tolist()
    return {
        "focus": focus,
        "training": before,
        "period": after,
        "low": low,
        "high": high,
        "distance": share_distance(counts, known),
        "p": _chi_square(counts, known),
    }


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


def row(finding: Finding) -> dict[str, Any]:
    """Return a finding as the table and JSON show it; unknown numbers are None."""
    measure = finding.measure
    own = {"measure": measure.title, "class": finding.focus or None, "change": finding.change}
    data = asdict(finding) | own | {"unit": "share" if finding.focus else measure.unit}
    return {name: None if isinstance(data[name], float) and math.isnan(data[name]) else data[name] for name in COLUMNS}


def cells(finding: Finding) -> list[str]:
    """Return a row of the table as text."""
    values = row(finding).values()
    return ["" if one is None else f"{one:.4g}" if isinstance(one, float) else str(one) for one in values]


def summary(drift: Drift, settings: MonitorSettings) -> str:
    """Return the result in up to three lines."""
    drifted, too_few = ([one.measure.title for one in drift.having(verdict)] for verdict in ("drifted", "too few rows"))
    lines = [f"{drift.recordings} rows, {drift.answers} of them predicted by this package"]
    if drifted:
        lines.append(f"drifted: {', '.join(drifted)}")
    elif len(too_few) < len(drift.findings):
        lines.append("no drift")
    if too_few:
        lines.append(f"too few rows (at least {settings.rows} are needed): {', '.join(too_few)}")
    return "\n".join(lines)


def content(drift: Drift, reference: Reference) -> dict[str, Any]:
    """Return all of it, ready for JSON."""
    return {
        "rows": {"recordings": drift.recordings, "answers": drift.answers},
        "reference": {"recordings": reference.recordings, "answers": reference.answers},
        "drifted": [one.measure.name for one in drift.having("drifted")],
        "too_few_rows": [one.measure.name for one in drift.having("too few rows")],
        "measures": {one.measure.name: row(one) for one in drift.findings},
    }
