"""Takes what was found of a period; gives it in words and as JSON."""

import math
from typing import Any, Final

from speech_emotion.monitoring.drift import Drift, Finding, Verdict
from speech_emotion.monitoring.logbook import Period
from speech_emotion.monitoring.measures import CLASSES
from speech_emotion.monitoring.reference import Reference
from speech_emotion.package import Package
from speech_emotion.settings.monitor import MonitorSettings

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
    if drift.untold:
        names = ", ".join(one.measure.title for one in drift.untold)
        lines.append(f"too few rows to tell (at least {settings.rows} are asked for): {names}.")
    if not drift.moved and len(drift.untold) < len(drift.findings):
        lines.append("nothing has moved." if not drift.untold else "nothing else has moved.")
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
        "too_few_rows": [one.measure.name for one in drift.untold],
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
