"""Draw figures in one style. Equal data gives equal bytes."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
    "svg.hashsalt": "speech-emotion",
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


def confusion_matrices(path: Path, folds: dict[str, np.ndarray], labels: Sequence[str], *, title: str) -> None:
    """Draw one confusion matrix per fold, or the sum of many folds, in percent of the true label.

    Parameters
    ----------
    path : Path
    folds : dict of str to np.ndarray [shape=(labels, labels)]
        Counts, true label by row.
    labels : sequence of str
    title : str
    """
    names = [label.replace("_", " ") for label in labels]
    titles = {fold: "" if len(folds) == 1 else f"left out: {fold}" for fold in folds}
    if len(folds) > PANELS:
        titles = {"pooled": f"{len(folds)} folds pooled"}
        folds = {"pooled": np.sum(list(folds.values()), axis=0)}
    with drawing(path, width=5.4 * len(folds), height=5.0) as figure:
        figure.suptitle(title)
        for axes, (fold, counts) in zip(figure.subplots(1, len(folds), squeeze=False)[0], folds.items(), strict=True):
            share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
            axes.grid(visible=False)
            for row, column in np.ndindex(*counts.shape):
                if counts[row, column]:
                    ink = "white" if share[row, column] > 60 else "black"
                    text = percent(share[row, column])
                    axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
            axes.set_yticks(range(len(names)), names)
            axes.set(xlabel="predicted", ylabel="true", title=titles[fold])
        figure.colorbar(image, ax=figure.axes, shrink=0.8, label="% of the true label")


def training_curves(path: Path, history: pd.DataFrame, *, title: str) -> None:
    """Draw loss and accuracy by epoch: one colour per fold, or the mean and range of many folds.

    Parameters
    ----------
    path : Path
    history : pd.DataFrame [columns=(fold, epoch, loss, accuracy, val_loss, val_accuracy, ...)]
    title : str
    """
    many = history["fold"].nunique() > PANELS
    with drawing(path, width=9.0, height=4.2) as figure:
        figure.suptitle(title + (f", mean and range of {history['fold'].nunique()} folds" if many else ""))
        panels = figure.subplots(1, 2)
        keys = []
        for panel, axes in enumerate(panels):
            for number, (_, style, columns) in enumerate(_CURVES):
                column = columns[panel]
                if many:
                    drawn = history.groupby("epoch")[column].agg(["mean", "min", "max"])
                    axes.plot(drawn.index, drawn["mean"], color=COLOURS[number], ls=style)
                    axes.fill_between(drawn.index, drawn["min"], drawn["max"], color=COLOURS[number], alpha=0.15, lw=0)
                    continue
                for colour, (_, rows) in zip(COLOURS, history.groupby("fold", sort=True), strict=False):
                    axes.plot(rows["epoch"], rows[column], color=colour, ls=style)
        for number, (name, style, _) in enumerate(_CURVES):
            colour = COLOURS[number] if many else COLOURS[0] if history["fold"].nunique() == 1 else "black"
            keys.append(Line2D([], [], color=colour, ls=style, label=name))
        if not many and history["fold"].nunique() > 1:
            folds = zip(COLOURS, sorted(set(history["fold"])), strict=False)
            names = [Line2D([], [], color=colour, lw=4, label=f"without {fold}") for colour, fold in folds]
            panels[0].legend(handles=names, loc="upper right", fontsize="small")
        panels[0].set(xlabel="epoch", ylabel="cross-entropy (nats)")
        panels[0].set_ylim(bottom=0)
        panels[1].set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
        figure.legend(handles=keys, loc="outside lower center", ncols=3, fontsize="small")


_CURVES: Final = (("training", "-", ("loss", "accuracy")), ("validation", "--", ("val_loss", "val_accuracy")))
"""Name, line style, and columns of the left and the right panel."""


def protocol_table(path: Path, rows: pd.DataFrame, *, names: Sequence[str], title: str) -> None:
    """Draw the UAR of each model by protocol, with its interval and a dotted line at chance.

    Parameters
    ----------
    path : Path
    rows : pd.DataFrame [columns=(protocol, fold, panel, name, uar, uar_low, uar_high, chance)]
        More than `PANELS` folds of a protocol are dots in the panel of their mean.
    names : sequence of str
        Models from top to bottom.
    title : str
    """
    rows, dots = _without_many_folds(rows)
    panels = list(dict.fromkeys(rows["panel"]))
    with drawing(path, width=2.6 * len(panels) + 1.6, height=0.42 * len(names) + 1.4) as figure:
        figure.suptitle(title)
        for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
            shown = rows[rows["panel"] == panel].set_index("name").reindex(list(names))
            places = np.arange(len(names))[::-1]
            colours = [COLOURS[1] if name == names[0] else COLOURS[0] for name in names]
            axes.barh(places, shown["uar"], color=colours, height=0.62)
            spans = [shown["uar"] - shown["uar_low"], shown["uar_high"] - shown["uar"]]
            axes.errorbar(shown["uar"], places, xerr=np.clip(spans, 0, None), fmt="none", ecolor="black", lw=1.2)
            axes.axvline(shown["chance"].iloc[0], color="black", ls=":", lw=1.2)
            for name, own in dots[dots["panel"] == panel].groupby("name"):
                heights = np.full(len(own), places[list(names).index(str(name))] - 0.2)
                axes.scatter(own["uar"], heights, s=14, color=COLOURS[5], edgecolors="black", lw=0.4, zorder=3)
            for place, value, high in zip(places, shown["uar"], shown["uar_high"], strict=True):
                inside = high > 0.8
                where = {"x": value - 0.04 if inside else high + 0.02, "ha": "right" if inside else "left"}
                axes.text(y=place, s=f"{value:.3f}", va="center", color="white" if inside else "black", **where)
            axes.set(xlim=(0, 1.0), xlabel="UAR", title=panel)
            axes.set_yticks(places, list(names))
            axes.grid(visible=False, axis="y")


def _without_many_folds(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Separate the folds of protocols that have more than `PANELS`; return the other rows, and these."""
    single = ~rows["fold"].isin(["all", "mean"])
    counts = rows[single].groupby("protocol")["fold"].nunique()
    crowded = rows["protocol"].isin(counts.index[counts > PANELS])
    panels = {
        protocol: f"{part['panel'].iloc[0]} of {counts[protocol]} folds (dots)"
        for protocol, part in rows[crowded & ~single].groupby("protocol")
    }
    rows = rows.assign(panel=rows["protocol"].map(panels).where(crowded, rows["panel"]))
    return rows[~(crowded & single)], rows[crowded & single]


def reliability(path: Path, bins: pd.DataFrame, *, title: str) -> None:
    """Draw accuracy by confidence before and after calibration; the area of a point is its number of utterances.

    Parameters
    ----------
    path : Path
    bins : pd.DataFrame [columns=(fold, calibration, low, utterances, confidence, accuracy)]
        `low` is the lower edge of a bin. More than `PANELS` folds are pooled, with a light line per fold.
    title : str
    """
    folds = list(dict.fromkeys(bins["fold"]))
    parts = {"" if len(folds) == 1 else f"left out: {fold}": bins[bins["fold"] == fold] for fold in folds}
    if len(folds) > PANELS:
        parts = {f"{len(folds)} folds pooled; light lines: single folds": bins}
    with drawing(path, width=max(4.6 * len(parts) + 0.4, 5.6), height=4.8) as figure:
        figure.suptitle(title)
        for axes, (name, part) in zip(
            figure.subplots(1, len(parts), sharey=True, squeeze=False)[0], parts.items(), strict=True
        ):
            axes.plot([0, 1], [0, 1], color="black", ls=":", lw=1.2)
            for when, colour, marker in (("before", COLOURS[1], "s"), ("after", COLOURS[0], "o")):
                _draw_reliability(axes, part[part["calibration"] == when], colour, marker, f"{when} calibration")
            axes.set(xlim=(0, 1.05), ylim=(0, 1.05), xlabel="confidence", aspect="equal", title=name)
            axes.legend(loc="lower right", fontsize="small")
        figure.axes[0].set_ylabel("accuracy")


def _draw_reliability(axes: Axes, bins: pd.DataFrame, colour: str, marker: str, name: str) -> None:
    several = bins["fold"].nunique() > 1
    gaps = []
    for _, rows in bins.groupby("fold", sort=False):
        gap = rows["utterances"] * (rows["accuracy"] - rows["confidence"]).abs()
        gaps.append(gap.sum() / rows["utterances"].sum())
        if several:
            axes.plot(rows["confidence"], rows["accuracy"], color=colour, lw=0.7, alpha=0.25)
    shown = _pooled(bins) if several else bins
    axes.plot(shown["confidence"], shown["accuracy"], color=colour, lw=1.2)
    area = 10 + 400 * shown["utterances"] / shown["utterances"].sum()
    axes.scatter(shown["confidence"], shown["accuracy"], s=area, color=colour, alpha=0.6, marker=marker)
    label = f"{name}, {'mean ' if several else ''}ECE {np.mean(gaps):.3f}"
    axes.plot([], [], color=colour, marker=marker, label=label)


def _pooled(bins: pd.DataFrame) -> pd.DataFrame:
    """Pool the bins of all folds, weighted by utterances."""
    weighted = bins[["confidence", "accuracy"]].mul(bins["utterances"], axis=0)
    sums = weighted.assign(low=bins["low"], utterances=bins["utterances"]).groupby("low").sum()
    return sums[["confidence", "accuracy"]].div(sums["utterances"], axis=0).assign(utterances=sums["utterances"])


def risk_coverage(path: Path, curves: pd.DataFrame, marks: dict[str, tuple[float, float]], *, title: str) -> None:
    """Draw the share of wrong predictions among the most confident ones: one line per fold, and the mean of many.

    Parameters
    ----------
    path : Path
    curves : pd.DataFrame [columns=(fold, coverage, risk)]
    marks : dict of str to (float, float)
        Coverage and risk of each fold at its package's threshold.
    title : str
    """
    with drawing(path, width=6.4, height=4.0) as figure:
        figure.suptitle(title)
        axes = figure.subplots()
        folds = curves.groupby("fold", sort=True)
        many = folds.ngroups > PANELS
        light: dict[str, Any] = {"lw": 0.8, "alpha": 0.3} if many else {}
        for colour, (fold, rows) in zip(itertools.cycle(COLOURS[:1] if many else COLOURS), folds, strict=False):
            name = "all predictions" if folds.ngroups == 1 else f"left out: {fold}"
            axes.plot(rows["coverage"], rows["risk"], color=colour, label=None if many else name, **light)
            if fold in marks:
                axes.plot(*marks[str(fold)], color=colour, marker="o", ms=4 if many else 8, ls="none", clip_on=False)
        if many:
            places = np.linspace(curves.groupby("fold")["coverage"].min().max(), 1, 101)
            mean = np.mean([np.interp(places, rows["coverage"], rows["risk"]) for _, rows in folds], axis=0)
            axes.plot([], [], color=COLOURS[0], label="single folds", **light)
            axes.plot(places, mean, color="black", lw=2.2, label=f"mean of {folds.ngroups} folds")
        if marks:
            axes.plot([], [], color="grey", marker="o", ms=8, ls="none", label="threshold of the package")
        axes.set(
            xlim=(0, 1.02), xlabel="coverage: share of predictions kept", ylabel="risk: share of these that are wrong"
        )
        axes.set_ylim(0, max(0.1, 1.1 * curves["risk"].max()))
        axes.legend(loc="best", fontsize="small")


def recall_table(path: Path, table: pd.DataFrame, *, title: str) -> None:
    """Draw a table of recalls in percent, rows and columns as in `table`; NaN stays empty."""
    row_height = 0.45 if len(table) <= 16 else 0.24
    with drawing(path, width=1.0 * len(table.columns) + 4.0, height=row_height * len(table) + 2.0) as figure:
        figure.suptitle(title)
        axes = figure.subplots()
        shares = 100 * table.to_numpy(dtype=np.float64)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        axes.grid(visible=False)
        for row, column in np.argwhere(np.isfinite(shares)):
            ink = "white" if shares[row, column] > 60 else "black"
            axes.text(column, row, percent(shares[row, column]), ha="center", va="center", color=ink, fontsize=9)
        axes.set_xticks(range(len(table.columns)), list(table.columns), rotation=35, ha="right")
        axes.set_yticks(range(len(table)), list(table.index))
        figure.colorbar(image, ax=axes, shrink=0.9, label="recall (%)")


def robustness(path: Path, table: pd.DataFrame, *, title: str) -> None:
    """Draw the UAR of every condition with its interval, one panel per protocol.

    Parameters
    ----------
    path : Path
    table : pd.DataFrame [columns=(protocol, condition, uar, low, high)]
        The unmodified recordings come first; their UAR is the dotted line.
    title : str
    """
    protocols, names = (list(dict.fromkeys(table[column])) for column in ("protocol", "condition"))
    with drawing(path, width=3.2 * len(protocols) + 2.0, height=0.34 * len(names) + 1.4) as figure:
        figure.suptitle(title)
        places = np.arange(len(names))[::-1]
        least = max(0.0, np.floor(10 * table["low"].min() - 0.5) / 10)
        for axes, protocol in zip(
            figure.subplots(1, len(protocols), sharey=True, squeeze=False)[0], protocols, strict=True
        ):
            shown = table[table["protocol"] == protocol].set_index("condition").loc[names]
            spans = [shown["uar"] - shown["low"], shown["high"] - shown["uar"]]
            axes.axvline(shown["uar"].iloc[0], color="black", ls=":", lw=1.2)
            axes.errorbar(shown["uar"], places, xerr=np.clip(spans, 0, None), fmt="o", color=COLOURS[0], lw=1.4, ms=5)
            axes.set(xlim=(least, 1 + 0.02 * (1 - least)), xlabel="UAR", title=protocol)
            axes.set_yticks(places, names)


@contextmanager
def drawing(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """Yield a figure to draw on, then write it atomically."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height))
        try:
            yield figure
            with replacing(path) as aside:
                # without the version of matplotlib, equal figures have equal bytes
                figure.savefig(aside, format=path.suffix[1:], metadata={"Software": None})
        finally:
            plt.close(figure)
