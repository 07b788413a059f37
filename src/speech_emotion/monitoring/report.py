"""Write the drift report as one HTML page without external resources, with a plot of each measure."""

import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
import pandas as pd
import seaborn

from speech_emotion.config.monitoring import MonitorSettings
from speech_emotion.core.io import write_text
from speech_emotion.evaluation.plots import COLOURS, drawing
from speech_emotion.evaluation.report_page import Picture, picture
from speech_emotion.models.package import Package
from speech_emotion.monitoring.drift import COLUMNS, Drift, cells
from speech_emotion.monitoring.prediction_log import Period
from speech_emotion.monitoring.reference import Measure, Reference

_PALETTE: Final = {"training": "#8a939c", "period": COLOURS[1]}
_MOST_CLASSES: Final = 8


def write_page(
    target: Path,
    drift: Drift,
    values: Mapping[str, np.ndarray],
    reference: Reference,
    settings: MonitorSettings,
    *,
    package: Package,
    period: Period,
) -> None:
    """Write the page atomically."""
    pictures: list[tuple[bool, Picture]] = []
    with tempfile.TemporaryDirectory() as folder:
        for one in drift.findings:
            if one.verdict != "too few rows":
                path = Path(folder, f"{one.measure.name}.png")
                _draw(path, one.measure, values[one.measure.name], reference)
                pictures.append((one.verdict == "drifted", picture(path, one.measure.title)))
    source = resources.files(__package__).joinpath("monitor.html.j2").read_text(encoding="utf-8")
    template = jinja2.Template(source, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = template.render(
        drift=drift,
        columns=COLUMNS,
        rows=[(one.verdict == "drifted", cells(one)) for one in drift.findings],
        drifted=[one.measure.title for one in drift.having("drifted")],
        too_few=[one.measure.title for one in drift.having("too few rows")],
        pictures=pictures,
        reference=reference,
        settings=settings,
        package=package,
        period=period,
    )
    write_text(target, page)


def _draw(path: Path, measure: Measure, values: np.ndarray, reference: Reference) -> None:
    """Draw the distribution of a measure in training and in the period."""
    known = reference.values(measure)
    data = ["training"] * len(known) + ["period"] * len(values)
    frame = pd.DataFrame({"value": np.concatenate([known, values]), "data": data})
    how: dict[str, Any] = {}
    if measure.name in reference.numbers:
        how = {"element": "step", "bins": 25}
        low, high = frame["value"].quantile([0.001, 0.999])
        frame["value"] = frame["value"].clip(low, high)
    else:
        most = frame["value"].value_counts().index[:_MOST_CLASSES]
        frame = frame[frame["value"].isin(most)].assign(value=frame["value"].str.replace("_", " "))
        how = {"multiple": "dodge", "shrink": 0.8}
    with drawing(path, width=4.6, height=2.3) as figure:
        axes = figure.subplots()
        seaborn.histplot(
            frame, x="value", hue="data", palette=_PALETTE, stat="percent", common_norm=False, ax=axes, **how
        )
        axes.set(xlabel=f"{measure.title} ({measure.unit})" if measure.unit else measure.title)
        axes.set(ylabel="% of recordings")
        seaborn.move_legend(axes, "best", title=None)
        if measure.name in reference.classes and len(most) > 3:
            axes.tick_params(axis="x", rotation=20)
