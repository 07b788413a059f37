"""Draw the figures of `explain`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from speech_emotion.evaluation.plots import COLOURS, drawing

_MARKS: Final = "osD^vP*X"
"""One marker per label, in addition to its colour."""

_DIVERGING: Final = "RdBu_r"
"""Red: the hidden piece supported the prediction; blue: hiding it raises the confidence."""

_FLOOR_DB: Final = -60
_SPECTROGRAM_SECONDS: Final = 0.032
_HIGHEST_HZ: Final = 8000


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
            image = _heat(axes, values.to_numpy(), high, [str(name) for name in values.columns])
            counts = part.drop_duplicates("emotion").set_index("emotion")["utterances"]
            if hidden == "time":
                names = [f"{_words(one)} ({counts.get(one, 0)})" for one in labels]
                axes.set_yticks(range(len(labels)), names)
                axes.set(xlabel="hidden tenth of the utterance", ylabel="predicted (utterances)")
            else:
                axes.set_yticks(range(len(labels)), [""] * len(labels))
                axes.set_xticks(range(values.shape[1]), list(values.columns), rotation=30, ha="right")
                axes.set_xlabel("hidden group of features")
            figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02, label="log-odds lost (nats)")


def draw_embeddings(path: Path, points: pd.DataFrame, labels: Sequence[str]) -> None:
    """Draw the map of the last layer, coloured by emotion and by speaker."""
    speakers = sorted(set(points["speaker"]))
    with drawing(path, width=10.5, height=4.2) as figure:
        figure.suptitle("Similar utterances (t-SNE of the last layer)")
        for axes, name, values in zip(figure.subplots(1, 2), ("emotion", "speaker"), (labels, speakers), strict=True):
            for number, value in enumerate(values):
                chosen = points[points[name] == value]
                axes.scatter(
                    chosen["x"],
                    chosen["y"],
                    s=9,
                    lw=0,
                    alpha=0.8,
                    color=COLOURS[number % len(COLOURS)],
                    marker=_MARKS[number % len(_MARKS)],
                    label=_words(value) or "unknown",
                )
            axes.set(xticks=[], yticks=[], title=f"by {name}")
            axes.grid(visible=False)
            if len(values) <= 2 * len(COLOURS):
                axes.legend(title=name, loc="center left", bbox_to_anchor=(1.02, 0.5), markerscale=2.2)


def draw_errors(path: Path, wrong: pd.DataFrame, waves: Sequence[np.ndarray], sample_rate: int) -> None:
    """Draw the spectrograms of the most confident errors."""
    columns = min(4, len(wrong))
    lines = -(-len(wrong) // columns)
    end = max(len(wave) for wave in waves) / sample_rate
    with drawing(path, width=3.4 * columns + 0.6, height=2.7 * lines + 0.7) as figure:
        protocol = wrong["protocol"].iloc[0]
        figure.suptitle(f"Most confident errors: {_PROTOCOLS.get(protocol, protocol)}")
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        image: Any = None
        for axes, wave, row in zip(grid.ravel(), waves, wrong.to_dict("records"), strict=False):
            image = _spectrogram(axes, wave, sample_rate)
            axes.set_title(
                f"“{row['text'] or row['id']}”, {row['speaker']}\n{_words(row['emotion'])}, predicted\n"
                f"{_words(row['prediction'])} ({row['confidence']:.0%})",
                fontsize=9,
            )
            axes.set_xlim(0, end)
            axes.label_outer()
        for axes in grid.ravel()[len(wrong) :]:
            axes.axis("off")
        for axes in grid[-1]:
            axes.set_xlabel("time (s)")
        figure.colorbar(image, ax=figure.axes, shrink=0.7, pad=0.01, label="dB")


_PROTOCOLS: Final[Mapping[str, str]] = {
    "speaker": "unseen speaker",
    "word": "unseen words",
    "random": "random split",
}


def _heat(axes: Axes, values: np.ndarray, high: float, ticks: Sequence[str]) -> Any:
    image = axes.imshow(np.ma.masked_invalid(values), cmap=_DIVERGING, vmin=-high, vmax=high, aspect="auto")
    axes.set_facecolor("#cccccc")
    axes.grid(visible=False)
    axes.set_xticks(range(len(ticks)), ticks)
    for row, column in np.ndindex(*values.shape):
        value = values[row, column]
        if np.isfinite(value):
            ink = "white" if abs(value) > 0.65 * high else "black"
            axes.text(
                column, row, f"{round(float(value), 1) + 0.0:.1f}", ha="center", va="center", color=ink, fontsize=8
            )
    return image


def _spectrogram(axes: Axes, wave: np.ndarray, sample_rate: int) -> Any:
    size = round(_SPECTROGRAM_SECONDS * sample_rate)
    hop = max(1, size // 4)
    padded = np.pad(wave, size // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    decibels = 20 * np.log10(np.abs(np.fft.rfft(windows, axis=1)) + 1e-6)
    image = axes.imshow(
        (decibels - decibels.max()).T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=_FLOOR_DB,
        vmax=0,
        extent=(0, len(wave) / sample_rate, 0, sample_rate / 2000),
    )
    axes.set(ylim=(0, min(_HIGHEST_HZ, sample_rate / 2) / 1000), ylabel="kHz")
    axes.grid(visible=False)
    return image


def _words(label: object) -> str:
    return str(label).replace("_", " ")
