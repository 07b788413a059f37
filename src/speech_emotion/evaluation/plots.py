"""Draw figures in one style. Equal data gives equal bytes."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from cycler import cycler
from matplotlib.figure import Figure

from speech_emotion.core.io import replacing

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito (2008), for any colour vision."""

PANELS: Final = 4
"""Most folds that a figure shows one by one; more are pooled or averaged."""

STYLE: Any = {
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


def percent(value: float) -> str:
    """Return a percentage without decimals, half rounded up; only 0 reads 0 and only 100 reads 100.

    Examples
    --------
    >>> [percent(value) for value in (0, 0.5, 8.5, 97.5, 99.5, 100)]
    ['0', '<1', '9', '98', '>99', '100']
    """
    value = round(float(value), 6)
    if 0 < value < 1:
        return "<1"
    return ">99" if 99 < value < 100 else str(int(value + 0.5))


def words(label: object) -> str:
    """Return a label as it is shown: with spaces for underscores."""
    return str(label).replace("_", " ")


def confusion_matrices(path: Path, folds: Mapping[str, np.ndarray], labels: Sequence[str], *, title: str) -> None:
    """Draw the counts of each fold, or the sum over many folds, in percent of the true label (rows)."""
    titles = {fold: "" if len(folds) == 1 else f"left out: {fold}" for fold in folds}
    if len(folds) > PANELS:
        titles = {"pooled": f"{len(folds)} folds pooled"}
        folds = {"pooled": np.sum(list(folds.values()), axis=0)}
    names = [words(label) for label in labels]
    with drawing(path, width=5.4 * len(folds), height=5.0) as figure:
        figure.suptitle(title)
        for axes, (fold, counts) in zip(_panels(figure, len(folds)), folds.items(), strict=True):
            shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            texts = np.where(counts > 0, np.vectorize(percent, otypes=[object])(shares), "")
            seaborn.heatmap(shares, annot=texts, fmt="", cmap="Blues", vmin=0, vmax=100, cbar=False, ax=axes)
            axes.set_xticks(axes.get_xticks(), names, rotation=45, ha="right")
            axes.set_yticks(axes.get_yticks(), names, rotation=0)
            axes.set(xlabel="predicted", ylabel="true", title=titles[fold])
        image = figure.axes[0].collections[0]
        figure.colorbar(image, ax=figure.axes, shrink=0.8, label="% of the true label")


def uar_by_protocol(path: Path, rows: pd.DataFrame, *, title: str, folds: pd.DataFrame | None = None) -> None:
    """Draw the UAR of each name with its interval, one panel per protocol.

    `rows` (protocol, name, uar, low, high, line) has the names from top to bottom; the first is highlighted. `line` is
    where a dotted line is drawn. `folds` (protocol, name, uar) are single folds, drawn as light dots.
    """
    names, panels = list(dict.fromkeys(rows["name"])), list(rows.groupby("protocol", sort=False))
    places = {name: -place for place, name in enumerate(names)}
    least = rows[["uar", "low"]].min().min()
    with drawing(path, width=3.0 * len(panels) + 2.0, height=0.36 * len(names) + 1.4) as figure:
        figure.suptitle(title)
        for axes, (protocol, shown) in zip(_panels(figure, len(panels)), panels, strict=True):
            axes.axvline(shown["line"].iloc[0], color="black", ls=":", lw=1.2)
            if folds is not None:
                own = folds[folds["protocol"] == protocol]
                axes.scatter(own["uar"], own["name"].map(places), s=16, color=COLOURS[5], alpha=0.7)
            for row in shown.itertuples():
                colour = COLOURS[1] if row.name == names[0] else COLOURS[0]
                axes.plot([row.low, row.high], [places[row.name]] * 2, color=colour, lw=1.6)
                axes.plot(row.uar, places[row.name], "o", color=colour, ms=5)
                axes.text(row.uar, places[row.name] + 0.12, f"{row.uar:.3f}", ha="center", va="bottom", fontsize=7)
            axes.set(xlabel="UAR", title=protocol, xlim=(max(0, least - 0.05), 1.04), ylim=(0.6 - len(names), 0.8))
            axes.set_yticks(list(places.values()), names)


def reliability(path: Path, bins: pd.DataFrame, *, title: str) -> None:
    """Draw accuracy by confidence from reliability.csv, pooled over folds, with a light line per fold.

    The area of a point is its number of utterances.
    """
    several = bins["fold"].nunique() > 1
    with drawing(path, width=5.6, height=4.8) as figure:
        figure.suptitle(title)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="black", ls=":", lw=1.2)
        for when, colour, marker in (("before", COLOURS[1], "s"), ("after", COLOURS[0], "o")):
            part = bins[bins["calibration"] == when]
            if several:
                for _, rows in part.groupby("fold"):
                    axes.plot(rows["confidence"], rows["accuracy"], color=colour, lw=0.7, alpha=0.25)
            sums = part.assign(
                gap=part["utterances"] * (part["accuracy"] - part["confidence"]).abs(),
                **{name: part[name] * part["utterances"] for name in ("confidence", "accuracy")},
            )
            by_fold = sums.groupby("fold")[["gap", "utterances"]].sum()
            error = (by_fold["gap"] / by_fold["utterances"]).mean()
            label = f"{when} calibration, {'mean ' if several else ''}ECE {error:.3f}"
            pooled = sums.groupby("low")[["confidence", "accuracy", "utterances"]].sum()
            x, y = pooled["confidence"] / pooled["utterances"], pooled["accuracy"] / pooled["utterances"]
            axes.plot(x, y, color=colour, lw=1.2, marker=marker, ms=3, label=label)
            area = 10 + 400 * pooled["utterances"] / pooled["utterances"].sum()
            axes.scatter(x, y, s=area, color=colour, alpha=0.6, marker=marker)
        axes.set(xlim=(0, 1.05), ylim=(0, 1.05), xlabel="confidence", ylabel="accuracy", aspect="equal")
        axes.legend(loc="lower right", fontsize="small")


def risk_coverage(path: Path, curves: pd.DataFrame, marks: Mapping[str, tuple[float, float]], *, title: str) -> None:
    """Draw the share of wrong predictions among the most confident ones from risk_coverage.csv, one line per fold.

    `marks` has coverage and risk of each fold at its package's threshold.
    """
    folds = sorted(set(curves["fold"]))
    with drawing(path, width=6.4, height=4.0) as figure:
        figure.suptitle(title)
        axes = figure.subplots()
        for colour, fold in zip(itertools.cycle(COLOURS), folds, strict=False):
            rows = curves[curves["fold"] == fold]
            name = "all predictions" if len(folds) == 1 else f"left out: {fold}"
            axes.plot(rows["coverage"], rows["risk"], color=colour, label=name if len(folds) <= PANELS else None)
            if fold in marks:
                axes.plot(*marks[fold], color=colour, marker="o", ms=8, ls="none", clip_on=False)
        if marks:
            axes.plot([], [], color="grey", marker="o", ms=8, ls="none", label="threshold of the package")
        axes.set(
            xlim=(0, 1.02), xlabel="coverage: share of predictions kept", ylabel="risk: share of these that are wrong"
        )
        axes.set_ylim(0, max(0.1, 1.1 * curves["risk"].max()))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", fontsize="small")


def _panels(figure: Figure, count: int) -> np.ndarray:
    """Return axes side by side [shape=(count,)]."""
    return cast(np.ndarray, figure.subplots(1, count, sharey=True, squeeze=False)[0])


@contextmanager
def drawing(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """Yield a figure to draw on, then write it atomically."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height))
        try:
            yield figure
            with replacing(path) as temporary:
                # without the version of matplotlib, equal figures have equal bytes
                figure.savefig(temporary, format=path.suffix[1:], metadata={"Software": None})
        finally:
            plt.close(figure)
