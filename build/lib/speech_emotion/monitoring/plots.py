"""Plot a measure of a period above that of the training data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from speech_emotion.evaluation.plots import COLOURS, drawing
from speech_emotion.monitoring.drift import Finding, Samples
from speech_emotion.monitoring.reference import Reference

_BINS: Final = 25
_TRAINING: Final = "#8a939c"
_MOST_CLASSES: Final = 8


def draw(path: Path, finding: Finding, found: Samples, reference: Reference) -> None:
    """Draw a measure: the training data in grey, the period in colour, both as shares.

    Parameters
    ----------
    path : Path
        A png file.
    finding : Finding
    found : Samples
    reference : Reference
    """
    measure = finding.measure
    with drawing(path, width=4.6, height=2.3) as figure:
        axes = figure.subplots()
        if measure.name in reference.numbers:
            known = reference.numbers[measure.name].values(measure.digits)
            _histograms(axes, found.numbers[measure.name], known)
            axes.set_xlabel(f"{measure.title} ({measure.unit})" if measure.unit else measure.title)
        else:
            _bars(axes, found.classes[measure.name], reference.classes[measure.name].counts)
            axes.set_ylabel("% of recordings")


def _histograms(axes: Axes, values: np.ndarray, known: np.ndarray) -> None:
    low, high = np.quantile(np.concatenate([values, known]), (0.001, 0.999))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    for shown, colour, label, filled in ((known, _TRAINING, "training", True), (values, COLOURS[1], "period", False)):
        shares = 100 * np.histogram(np.clip(shown, low, high), edges)[0] / len(shown)
        axes.stairs(shares, edges, color=colour, fill=filled, alpha=0.55 if filled else 1.0, lw=1.6, label=label)
        axes.axvline(float(np.median(shown)), color=colour, ls=":", lw=1.2)
    axes.set_ylabel("% of recordings")
    axes.legend(fontsize="small")


def _bars(axes: Axes, counts: Mapping[str, int], known: Mapping[str, int]) -> None:
    totals = {
        name: counts.get(name, 0) / sum(counts.values()) + known.get(name, 0) / sum(known.values())
        for name in counts.keys() | known.keys()
    }
    names = sorted(sorted(totals), key=lambda name: -totals[name])[:_MOST_CLASSES]
    places = np.arange(len(names))
    for shown, colour, label, shift in ((known, _TRAINING, "training", -0.2), (counts, COLOURS[1], "period", 0.2)):
        shares = [100 * shown.get(name, 0) / sum(shown.values()) for name in names]
        axes.bar(places + shift, shares, width=0.4, color=colour, alpha=0.55 if shift < 0 else 1.0, label=label)
    words = [name.replace("_", " ") for name in names]
    axes.set_xticks(places, words, rotation=20 if len(names) > 3 else 0, ha="right" if len(names) > 3 else "center")
    axes.set_xlim(-0.6, max(len(names), 3) - 0.4)
    axes.grid(visible=False, axis="x")
    axes.legend(fontsize="small")
