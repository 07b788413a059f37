"""Write the drift report as one HTML page without external resources."""

import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

import jinja2

from speech_emotion.config.monitoring import MonitorSettings
from speech_emotion.core.io import write_text
from speech_emotion.evaluation.report_page import Picture, picture
from speech_emotion.models.package import Package
from speech_emotion.monitoring import drift as monitoring_drift
from speech_emotion.monitoring.drift import Drift, Finding, Samples, Verdict
from speech_emotion.monitoring.plots import draw
from speech_emotion.monitoring.prediction_log import Period
from speech_emotion.monitoring.reference import Reference

TEMPLATE: Final = "monitor.html.j2"


def write_page(
    target: Path,
    drift: Drift,
    found: Samples,
    reference: Reference,
    settings: MonitorSettings,
    *,
    package: Package,
    period: Period,
) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    target : Path
    drift : Drift
    found : Samples
        What it was made from.
    reference : Reference
    settings : MonitorSettings
    package : Package
    period : Period
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    source = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        drift=drift,
        columns=monitoring_drift.COLUMNS,
        rows=[(one.verdict is Verdict.moved, monitoring_drift.cells(one)) for one in drift.findings],
        sentences=[monitoring_drift.sentence(one) for one in drift.moved],
        too_few=[one.measure.title for one in drift.too_few],
        pictures=_pictures(drift, found, reference),
        reference=reference,
        settings=settings,
        description=package.description,
        digest=package.digest,
        period=period,
    )
    write_text(target, page)


def _pictures(drift: Drift, found: Samples, reference: Reference) -> list[tuple[bool, str, Picture]]:
    """Return a picture of each measure that was compared: whether it has moved, its title, and itself."""
    with tempfile.TemporaryDirectory() as folder:
        shown = []
        for one in drift.findings:
            if one.verdict is not Verdict.too_few:
                path = Path(folder, f"{one.measure.name}.png")
                draw(path, one, found, reference)
                shown.append((one.verdict is Verdict.moved, one.measure.title, picture(path, _caption(one))))
    return shown


def _caption(finding: Finding) -> str:
    return f"{monitoring_drift.sentence(finding)}: {finding.verdict}"
