"""Draw the figures of `explain`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import seaborn

from speech_emotion.evaluation.plots import COLOURS, drawing, words

_MARKS: Final = "osD^vP*X"
"""One marker per label, in addition to its colour."""

_DIVERGING: Final = "RdBu_r"
"""Red: the hidden piece supported the prediction; blue: hiding it raises the confidence."""


def draw_occlusion(path: Path, table: pd.DataFrame, labels: Sequence[str]) -> None:
    """Draw the contribution of each tenth and of each group of features; `table` is from `explain.occlusions`."""
    groups = table.loc[table["hidden"] == "features", "piece"].nunique()
    with drawing(path, width=11.5, height=0.36 * len(labels) + 2.1) as figure:
        figure.suptitle("Loss of confidence when a piece is hidden")
        panels = figure.subplots(1, 2, width_ratios=[10, max(groups, 4)])
        for axes, hidden in zip(panels, ("time", "features"), strict=True):
            part = table[table["hidden"] == hidden]
            values = part.pivot(index="emotion", columns="piece", values="log_odds")
            values = values.reindex(index=list(labels), columns=list(dict.fromkeys(part["piece"])))
            # the two kinds of pieces have unequal sizes, so each has its own scale
            high = float(part["log_odds"].abs().max()) or 1.0
            seaborn.heatmap(
                values.round(1) + 0.0,
                annot=True,
                fmt=".1f",
                cmap=_DIVERGING,
                vmin=-high,
                vmax=high,
                yticklabels=False,
                cbar_kws={"label": "log-odds lost (nats)"},
                ax=axes,
            )
            axes.set_facecolor("#cccccc")
        counts = table.drop_duplicates("emotion").set_index("emotion")["utterances"]
        names = [f"{words(one)} ({counts.get(one, 0)})" for one in labels]
        panels[0].set_yticks(np.arange(len(labels)) + 0.5, names)
        panels[0].set(xlabel="hidden tenth of the utterance", ylabel="predicted (utterances)")
        panels[1].set(xlabel="hidden group of features", ylabel="")
        panels[1].tick_params(axis="x", labelrotation=30)


def draw_embeddings(path: Path, points: pd.DataFrame, labels: Sequence[str]) -> None:
    """Draw the map of the last layer, coloured by emotion and by speaker."""
    speakers = sorted(set(points["speaker"]))
    with drawing(path, width=10.5, height=4.2) as figure:
        figure.suptitle("Similar utterances (t-SNE of the last layer)")
        for axes, name, values in zip(figure.subplots(1, 2), ("emotion", "speaker"), (labels, speakers), strict=True):
            for number, value in enumerate(values):
                chosen = points[points[name] == value]
                colour, mark = COLOURS[number % len(COLOURS)], _MARKS[number % len(_MARKS)]
                label = words(value) or "unknown"
                axes.scatter(chosen["x"], chosen["y"], s=9, lw=0, alpha=0.8, color=colour, marker=mark, label=label)
            axes.set(xticks=[], yticks=[], title=f"by {name}")
            axes.grid(visible=False)
            if len(values) <= 2 * len(COLOURS):
                axes.legend(title=name, loc="center left", bbox_to_anchor=(1.02, 0.5), markerscale=2.2)
