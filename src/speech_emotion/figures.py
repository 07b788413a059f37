"""Takes tables and arrays; gives every picture that the project draws: one style, and equal bytes from equal data."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.figure import Figure

from speech_emotion.files import replacing

# Okabe and Ito's palette (2008), which readers with any colour vision tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

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


def confusion_matrices(path: Path, folds: dict[str, np.ndarray], labels: Sequence[str], *, title: str) -> None:
    """Draw a confusion matrix a fold, rows in percent of the true label.

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
    with drawing(path, width=5.4 * len(folds), height=5.0) as figure:
        figure.suptitle(title)
        for axes, (fold, counts) in zip(figure.subplots(1, len(folds), squeeze=False)[0], folds.items(), strict=True):
            share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
            axes.grid(visible=False)
            for row, column in np.ndindex(*counts.shape):
                if counts[row, column]:
                    ink = "white" if share[row, column] > 60 else "black"
                    text = f"{share[row, column]:.0f}" if share[row, column] >= 1 else "<1"
                    axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
            axes.set_yticks(range(len(names)), names)
            axes.set(xlabel="predicted", ylabel="true", title="" if len(folds) == 1 else f"left out: {fold}")
        figure.colorbar(image, ax=figure.axes, shrink=0.8, label="% of the true label")


def training_curves(path: Path, history: pd.DataFrame, *, title: str) -> None:
    """Draw loss and accuracy by epoch, a colour a fold, training solid and validation dashed.

    Parameters
    ----------
    path : Path
        A png file.
    history : pd.DataFrame [columns=(fold, epoch, loss, accuracy, val_loss, val_accuracy, ...)]
    title : str
    """
    with drawing(path, width=9.0, height=4.0) as figure:
        figure.suptitle(title)
        left, right = figure.subplots(1, 2)
        for colour, (fold, rows) in zip(itertools.cycle(COLOURS), history.groupby("fold", sort=True), strict=False):
            suffix = "" if history["fold"].nunique() == 1 else f", without {fold}"
            for axes, name in ((left, "loss"), (right, "accuracy")):
                axes.plot(rows["epoch"], rows[name], color=colour, label=f"training{suffix}")
                axes.plot(rows["epoch"], rows[f"val_{name}"], color=colour, ls="--", label=f"validation{suffix}")
        left.set(xlabel="epoch", ylabel="cross-entropy (nats)")
        left.set_ylim(bottom=0)
        right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
        figure.legend(
            *right.get_legend_handles_labels(), loc="outside lower center", ncols=2 * history["fold"].nunique()
        )


def protocol_table(path: Path, rows: pd.DataFrame, *, names: Sequence[str], title: str) -> None:
    """Draw the UAR of each model by protocol, with its interval, above the line of chance.

    Parameters
    ----------
    path : Path
        A png file.
    rows : pd.DataFrame [columns=(panel, name, uar, uar_low, uar_high, chance)]
    names : sequence of str
        The models, from top to bottom.
    title : str
    """
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
            for place, value, high in zip(places, shown["uar"], shown["uar_high"], strict=True):
                inside = high > 0.8
                where = {"x": value - 0.04 if inside else high + 0.02, "ha": "right" if inside else "left"}
                axes.text(y=place, s=f"{value:.3f}", va="center", color="white" if inside else "black", **where)
            axes.set(xlim=(0, 1.0), xlabel="UAR", title=panel)
            axes.set_yticks(places, list(names))
            axes.grid(visible=False, axis="y")


def reliability(path: Path, bins: pd.DataFrame, *, title: str) -> None:
    """Draw accuracy by confidence, before and after calibration, a panel a fold; a point's area is its utterances.

    Parameters
    ----------
    path : Path
        A png file.
    bins : pd.DataFrame [columns=(fold, calibration, utterances, confidence, accuracy)]
    title : str
    """
    folds = list(dict.fromkeys(bins["fold"]))
    with drawing(path, width=4.6 * len(folds) + 0.4, height=4.8) as figure:
        figure.suptitle(title)
        for axes, fold in zip(figure.subplots(1, len(folds), sharey=True, squeeze=False)[0], folds, strict=True):
            axes.plot([0, 1], [0, 1], color="black", ls=":", lw=1.2)
            for when, colour, marker in (("before", COLOURS[1], "s"), ("after", COLOURS[0], "o")):
                shown = bins[(bins["fold"] == fold) & (bins["calibration"] == when)]
                gap = (shown["utterances"] * (shown["accuracy"] - shown["confidence"]).abs()).sum()
                label = f"{when} calibration, ECE {gap / shown['utterances'].sum():.3f}"
                axes.plot(shown["confidence"], shown["accuracy"], color=colour, lw=1.2)
                area = 10 + 400 * shown["utterances"] / shown["utterances"].sum()
                axes.scatter(shown["confidence"], shown["accuracy"], s=area, color=colour, alpha=0.6, marker=marker)
                axes.plot([], [], color=colour, marker=marker, label=label)
            axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", aspect="equal")
            axes.set_title("" if len(folds) == 1 else f"left out: {fold}")
            axes.legend(loc="upper left", fontsize="small")
        figure.axes[0].set_ylabel("share of right answers")


def risk_coverage(path: Path, curves: pd.DataFrame, marks: dict[str, tuple[float, float]], *, title: str) -> None:
    """Draw the share of wrong answers among the most confident ones, a colour a fold.

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
        for colour, (fold, rows) in zip(itertools.cycle(COLOURS), folds, strict=False):
            name = "all answers" if folds.ngroups == 1 else f"left out: {fold}"
            axes.plot(rows["coverage"], rows["risk"], color=colour, label=name)
            if fold in marks:
                axes.plot(*marks[str(fold)], color=colour, marker="o", ms=8, ls="none", clip_on=False)
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
    with drawing(path, width=1.0 * len(table.columns) + 4.0, height=0.45 * len(table) + 2.0) as figure:
        figure.suptitle(title)
        axes = figure.subplots()
        shares = 100 * table.to_numpy(dtype=np.float64)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        axes.grid(visible=False)
        for row, column in np.argwhere(np.isfinite(shares)):
            ink = "white" if shares[row, column] > 60 else "black"
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=ink, fontsize=9)
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
    with drawing(path, width=4.2 * len(names) + 3.4, height=4.8) as figure:
        figure.suptitle(title)
        for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
            axes.plot([0, 1], [0, 1], color="black", ls=":", lw=1.2)
            for number, (x, y) in enumerate(zip(models[name], models[target], strict=True)):
                colour = COLOURS[number % len(COLOURS)]
                label = f"{number + 1}  {models.index[number]}" if name == names[0] else None
                axes.scatter(x, y, s=150, color=colour, alpha=0.85, label=label, lw=0)
                axes.text(x, y, str(number + 1), ha="center", va="center", color="white", fontsize=7, weight="bold")
            found = correlation.loc[name]
            axes.set_title(f"rank correlation {found['rho']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})")
            axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel=f"UAR, validation, {name}")
        figure.axes[0].set_ylabel(f"UAR, {target}")
        figure.legend(loc="outside right center", fontsize="small")


def sweep(path: Path, rows: pd.DataFrame, *, title: str, parameter: str) -> None:
    """Draw what each value of a parameter comes to, by fold, and the mean over folds.

    Parameters
    ----------
    path : Path
        A png file.
    rows : pd.DataFrame [columns=(value, seed, fold, uar, same_voice_uar)]
        Values are text, in the order in which they are to stand.
    title : str
    parameter : str
        What the values are of.
    """
    values = list(dict.fromkeys(rows["value"]))
    means = rows.groupby("value", sort=False)[["uar", "same_voice_uar"]].mean()
    with drawing(path, width=8.0, height=4.4) as figure:
        axes = figure.subplots()
        axes.plot(values, means["same_voice_uar"], color="grey", ls="--", marker="o", label="the same voices, mean")
        for number, (fold, part) in enumerate(rows.groupby("fold", sort=False)):
            one = part.groupby("value", sort=False)["uar"].mean()
            axes.plot(values, one, color=COLOURS[number], lw=1.2, label=f"pseudo-speakers, without {fold}")
        by_seed = rows.groupby(["value", "seed"], sort=False)["uar"].mean().reset_index()
        axes.scatter(by_seed["value"], by_seed["uar"], color="black", s=12, alpha=0.5, label="mean of one seed")
        axes.plot(values, means["uar"], color="black", marker="o", lw=2.2, label="pseudo-speakers, mean")
        highest = int(np.argmax(means["uar"].to_numpy()))
        axes.scatter(values[highest], means["uar"].iloc[highest], s=160, facecolors="none", edgecolors="black", lw=1.5)
        axes.set(ylim=(0, 1.02), xlabel=parameter, ylabel="UAR")
        axes.set_title(title)
        figure.legend(loc="outside right center", fontsize="small")


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
