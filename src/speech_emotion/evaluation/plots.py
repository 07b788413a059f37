"""Takes tables and arrays; gives every picture that the project draws: one style, and equal bytes from equal data."""

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

# Okabe and Ito's palette (2008), which readers with any colour vision tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

PANELS = 4
"""Folds that a picture shows one by one; of more it shows what they are together."""

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
    """Return a percentage without decimals, half rounded up; only what is nothing reads 0, and only all reads 100.

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
    """Draw a confusion matrix a fold, or of many folds one of their sum, rows in percent of the true label.

    Parameters
    ----------
    path : Path
        A png file.
    folds : dict of str to np.ndarray [shape=(labels, labels)]
        Counts, true label by row.
    labels : sequence of str
    title : str
    """
    names = [label.replace("_", " ") for label in labels]
    titles = {fold: "" if len(folds) == 1 else f"left out: {fold}" for fold in folds}
    if len(folds) > PANELS:
        titles = {"pooled": f"the utterances of {len(folds)} folds together"}
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
    """Draw loss and accuracy by epoch, a line style a kind of utterances, a colour a fold.

    Of many folds their mean is drawn, and from the least to the greatest of them a band.

    Parameters
    ----------
    path : Path
        A png file.
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
    """Draw the UAR of each model by protocol, with its interval, above the line of chance.

    Parameters
    ----------
    path : Path
        A png file.
    rows : pd.DataFrame [columns=(panel, name, uar, uar_low, uar_high, chance)]
        With the columns `protocol` and `fold`, the folds of a protocol that has many stand as light dots in the panel
        of their mean, not in panels of their own.
    names : sequence of str
        The models, from top to bottom.
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
    """Return rows without folds of a protocol that has more than `PANELS`, and those, each in its mean's panel."""
    if not {"protocol", "fold"} <= set(rows):
        return rows, rows.iloc[:0]
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
    """Draw accuracy by confidence, before and after calibration, a panel a fold; a point's area is its utterances.

    Of many folds there is one panel: the utterances of all of them together, and a light line a fold.

    Parameters
    ----------
    path : Path
        A png file.
    bins : pd.DataFrame [columns=(fold, calibration, low, utterances, confidence, accuracy)]
        `low` is where a bin begins.
    title : str
    """
    folds = list(dict.fromkeys(bins["fold"]))
    parts = {"" if len(folds) == 1 else f"left out: {fold}": bins[bins["fold"] == fold] for fold in folds}
    if len(folds) > PANELS:
        parts = {f"the utterances of {len(folds)} folds together, a light line a fold": bins}
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
        figure.axes[0].set_ylabel("share of right answers")


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
    """Return the bins of all folds together, each by how many utterances it has."""
    weighted = bins[["confidence", "accuracy"]].mul(bins["utterances"], axis=0)
    sums = weighted.assign(low=bins["low"], utterances=bins["utterances"]).groupby("low").sum()
    return sums[["confidence", "accuracy"]].div(sums["utterances"], axis=0).assign(utterances=sums["utterances"])


def risk_coverage(path: Path, curves: pd.DataFrame, marks: dict[str, tuple[float, float]], *, title: str) -> None:
    """Draw the share of wrong answers among the most confident ones, a colour a fold; of many folds, their mean too.

    Parameters
    ----------
    path : Path
        A png file.
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
            name = "all answers" if folds.ngroups == 1 else f"left out: {fold}"
            axes.plot(rows["coverage"], rows["risk"], color=colour, label=None if many else name, **light)
            if fold in marks:
                axes.plot(*marks[str(fold)], color=colour, marker="o", ms=4 if many else 8, ls="none", clip_on=False)
        if many:
            places = np.linspace(curves.groupby("fold")["coverage"].min().max(), 1, 101)
            mean = np.mean([np.interp(places, rows["coverage"], rows["risk"]) for _, rows in folds], axis=0)
            axes.plot([], [], color=COLOURS[0], label="a fold", **light)
            axes.plot(places, mean, color="black", lw=2.2, label=f"mean of {folds.ngroups} folds")
        if marks:
            axes.plot([], [], color="grey", marker="o", ms=8, ls="none", label="at the package's threshold")
        axes.set(xlim=(0, 1.02), xlabel="coverage: share of answers given as sure", ylabel="risk: share of them wrong")
        axes.set_ylim(0, max(0.1, 1.1 * curves["risk"].max()))
        axes.legend(loc="best", fontsize="small")


def recall_table(path: Path, table: pd.DataFrame, *, title: str) -> None:
    """Draw recalls in percent, a row a protocol and speaker, a column an emotion.

    Parameters
    ----------
    path : Path
        A png file.
    table : pd.DataFrame
        Shares; what is missing stays empty.
    title : str
    """
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
    """Draw the UAR of every condition with its interval, a panel a protocol, beside that of the recordings as they are.

    Parameters
    ----------
    path : Path
        A png file.
    table : pd.DataFrame [columns=(protocol, condition, uar, low, high)]
        The recordings as they are come first.
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


def signals(path: Path, models: pd.DataFrame, correlation: pd.DataFrame, *, title: str) -> None:
    """Draw what each model does with a left-out speaker by each of the signals that it could be chosen by.

    Every axis shows what the models reach, and not all from 0 to 1.

    Parameters
    ----------
    path : Path
        A png file.
    models : pd.DataFrame
        UAR, a row a model; the last column is of the left-out speaker, the others are the signals.
    correlation : pd.DataFrame [columns=(rho, low, high)]
        By signal.
    title : str
    """
    *names, target = models.columns
    with drawing(path, width=4.4 * len(names) + 2.8, height=5.0) as figure:
        figure.suptitle(title)
        grid = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(grid, names, strict=True):
            axes.plot([0, 1], [0, 1], color="black", ls=":", lw=1.2, label="equal" if axes is grid[0] else None)
            for number, (x, y) in enumerate(zip(models[name], models[target], strict=True)):
                label = f"{number + 1}  {models.index[number]}" if axes is grid[0] else None
                axes.scatter(x, y, s=42, label=label, zorder=3, edgecolors="white", lw=0.5, **_mark(number))
            found = correlation.loc[name]
            axes.set_title(f"rank correlation {found['rho']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})")
            axes.set_xlim(_span(models[name]))
            axes.set_ylim(_span(models[target]))
            axes.set_xlabel(_cut(f"UAR, validation, {name}", axes.get_xlim()))
        grid[0].set_ylabel(_cut(f"UAR, {target}", grid[0].get_ylim()))
        figure.legend(loc="outside right center", fontsize="small")
        figure.draw_without_rendering()  # numbers are set where there is room, which the layout decides
        for axes, name in zip(grid, names, strict=True):
            _number(axes, models[[name, target]].to_numpy())


def _mark(number: int) -> dict[str, str]:
    """Return how the model of a number is marked: colours are fewer than models."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": "osD^vP*X"[number // len(COLOURS) % 8]}


def _span(values: pd.Series) -> tuple[float, float]:
    """Return the ends of an axis for shares, on tenths and a little beyond what is there."""
    low, high = np.floor(10 * values.min() - 0.3) / 10, np.ceil(10 * values.max() + 0.3) / 10
    return max(0.0, float(low)), 1.02 if high > 1 else float(high)


def _cut(label: str, span: tuple[float, float]) -> str:
    return label if span[0] == 0 and span[1] > 1 else f"{label} (axis from {span[0]:.1f} to {min(span[1], 1):.1f})"


def _number(axes: Axes, points: np.ndarray) -> None:
    """Write each point's number beside it, where there is neither another number nor a point, with a line to it."""
    pixels = axes.transData.transform(points)
    unit = axes.figure.dpi / 72
    box = axes.get_window_extent()
    # half of a number of two digits, and half of what is beside it: a point, or another number
    taken = [(point, unit * np.array([10, 8])) for point in pixels]
    # to the right first, then about the point, then farther away
    angles = np.deg2rad([0, 180, 45, 315, 135, 225, 90, 270, 20, 340, 160, 200])
    for number, here in enumerate(pixels):
        places = [
            here + distance * unit * np.array([np.cos(angle), np.sin(angle)])
            for distance in (12, 16, 22, 30, 40, 52, 64)
            for angle in angles
        ]
        inside = [place for place in places if box.x0 + 6 * unit < place[0] < box.x1 + 4 * unit]
        free = (
            place
            for place in inside or places
            if all((np.abs(place - other) > around).any() for other, around in taken)
        )
        place = next(free, places[0])
        taken.append((place, unit * np.array([13, 11])))
        near = np.hypot(*(place - here)) < 13 * unit
        axes.annotate(
            str(number + 1),
            points[number],
            xytext=(place - here) / unit,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            arrowprops=None if near else {"arrowstyle": "-", "lw": 0.5, "color": "#555555", "shrinkA": 0, "shrinkB": 3},
        )


@contextmanager
def drawing(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """Give a figure to draw on, then write it, whole or not at all."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height))
        try:
            yield figure
            with replacing(path) as aside:
                # no date and no version inside, so that equal figures have equal bytes
                figure.savefig(aside, format=path.suffix[1:], metadata={"Software": None})
        finally:
            plt.close(figure)
