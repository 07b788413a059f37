"""Takes what full trainings came to on pseudo-speakers; gives the pictures of a sweep."""

from pathlib import Path

import numpy as np
import pandas as pd

from speech_emotion import figures
from speech_emotion.figures import COLOURS, PANELS

MARKERS = "os^Dv*P"


def by_value(path: Path, rows: pd.DataFrame, *, title: str, chosen: str) -> None:
    """Draw what each value of a parameter comes to, by fold, and the mean over folds.

    Of many folds there is a band, from the least to the greatest of them.

    Parameters
    ----------
    path : Path
        A png file.
    rows : pd.DataFrame [columns=(parameter, value, seed, fold, uar, same_voice_uar)]
        Of one parameter. Values are text, in the order in which they are to stand.
    title : str
    chosen : str
        The value that is ringed.
    """
    values = list(dict.fromkeys(rows["value"]))
    means = rows.groupby("value", sort=False)[["uar", "same_voice_uar"]].mean()
    with figures.drawing(path, width=8.0, height=4.4) as figure:
        axes = figure.subplots()
        axes.plot(values, means["same_voice_uar"], color="grey", ls="--", marker="o", label="the same voices, mean")
        by_fold = rows.pivot_table(index="value", columns="fold", values="uar", sort=False).reindex(values)
        if by_fold.shape[1] > PANELS:
            label = f"pseudo-speakers, range of {by_fold.shape[1]} folds"
            axes.fill_between(
                values, by_fold.min(axis=1), by_fold.max(axis=1), color=COLOURS[0], alpha=0.2, lw=0, label=label
            )
        else:
            for colour, fold in zip(COLOURS, by_fold, strict=False):
                label = f"pseudo-speakers, without {fold}"
                axes.plot(values, by_fold[fold], color=colour, lw=1.2, label=label)
        by_seed = rows.groupby(["value", "seed"], sort=False)["uar"].mean().reset_index()
        axes.scatter(by_seed["value"], by_seed["uar"], color="black", s=12, alpha=0.5, label="mean of one seed")
        axes.plot(values, means["uar"], color="black", marker="o", lw=2.2, label="pseudo-speakers, mean")
        axes.scatter(chosen, means["uar"][chosen], s=160, facecolors="none", edgecolors="black", lw=1.5)
        axes.set(ylim=(0, 1.02), xlabel=rows["parameter"].iloc[0], ylabel="UAR")
        axes.set_title(title)
        figure.legend(loc="outside right center", fontsize="small")


def by_difference(path: Path, differences: pd.DataFrame, *, title: str, chosen: str) -> None:
    """Draw what each of several changes is ahead by, a dot a seed, in rows.

    Parameters
    ----------
    path : Path
        A png file.
    differences : pd.DataFrame [shape=(changes, seeds)]
        UAR less that of the present settings; nan: not trained. The first row stands on top.
    title : str
    chosen : str
        The row that is in bold, if it is one.
    """
    with figures.drawing(path, width=8.0, height=1.6 + 0.24 * len(differences)) as figure:
        axes = figure.subplots()
        axes.axvline(0, color="black", lw=1)
        rows = np.arange(len(differences))
        for number, seed in enumerate(differences):
            axes.scatter(
                differences[seed],
                rows,
                s=28,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                label=f"seed {seed}",
                zorder=3,
            )
        axes.set_yticks(rows, differences.index, fontsize="small")
        for text in axes.get_yticklabels():
            text.set_fontweight("bold" if text.get_text() == chosen else "normal")
        axes.set(ylim=(len(differences) - 0.4, -0.6), xlabel="UAR on pseudo-speakers less that of the present settings")
        figure.suptitle(title, fontsize="medium")
        figure.legend(loc="outside lower center", ncols=min(5, differences.shape[1]), fontsize="small")
