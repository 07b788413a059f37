"""Takes what was found out about a model; gives the pictures that show it, in the style of `figures`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from speech_emotion.evaluation.plots import COLOURS, drawing
from speech_emotion.inference.summary import Layer

_MARKS: Final = "osD^vP*X"
"""A mark a label, beside its colour."""

_DIVERGING: Final = "RdBu_r"
"""Red: what is hidden carried the answer; blue: hiding it makes the answer surer."""

_FLOOR_DB: Final = -60
_SPECTROGRAM_SECONDS: Final = 0.032
_HIGHEST_HZ: Final = 8000


@dataclass(frozen=True)
class OccludedUtterance:
    """One utterance, and what a window that hides a piece of it takes from the answer.

    Attributes
    ----------
    title, heard : str
    wave : np.ndarray [shape=(n,)]
    sample_rate : int
        Hz.
    lost : np.ndarray [shape=(groups, places)]
        Log-odds, in nats.
    groups : sequence of str
    start, step : float
        Seconds from the beginning of the wave to the first place, and from one to the next.
    """

    title: str
    heard: str
    wave: np.ndarray
    sample_rate: int
    lost: np.ndarray
    groups: Sequence[str]
    start: float
    step: float


def draw_network(path: Path, layers: Sequence[Layer], labels: Sequence[str]) -> None:
    """Draw a network from top to bottom: a box a layer, the wider the more comes out of it."""
    shown = [layer for layer in layers if layer.kind != "dropout"]
    dropped = _dropouts(layers)
    total = sum(layer.parameters for layer in layers)
    widest = max(layer.width for layer in shown)
    with drawing(path, width=8.0, height=0.62 * len(shown) + 0.9) as figure:
        figure.suptitle(f"The network: {total:,} trained weights")
        axes = figure.subplots()
        axes.set(xlim=(-1.0, 1.0), ylim=(-len(shown) + 0.4, 0.55))
        axes.axis("off")
        for place, layer in enumerate(shown):
            half = 0.42 + 0.14 * np.log(layer.width) / np.log(max(widest, 2))
            colour = _BOX_COLOURS.get(layer.kind, "#e8e8e8")
            box = FancyBboxPatch((-half, -place - 0.27), 2 * half, 0.54, boxstyle="round,pad=0,rounding_size=0.06")
            box.set(facecolor=colour, edgecolor="#444444", linewidth=1.0)
            axes.add_patch(box)
            axes.text(0, -place + 0.09, layer.kind, ha="center", va="center", weight="bold")
            detail = ", ".join(_shortened(labels)) if layer.kind == "output" else layer.detail
            axes.text(0, -place - 0.12, detail, ha="center", va="center", fontsize=8, color="#333333")
            weights = f"{layer.parameters:,} weights" if layer.parameters else ""
            axes.text(-0.97, -place, weights, ha="left", va="center", fontsize=9, color="#555555")
            axes.text(0.97, -place, layer.output, ha="right", va="center", fontsize=9, color="#555555")
            if place + 1 < len(shown):
                axes.annotate(
                    "", (0, -place - 0.73), (0, -place - 0.27), arrowprops={"arrowstyle": "-|>", "color": "#444444"}
                )
                if dropped[place]:
                    axes.text(
                        0.03, -place - 0.49, f"dropout {dropped[place]}", va="center", fontsize=8, color="#8a4b00"
                    )


def draw_occlusion(path: Path, table: pd.DataFrame, labels: Sequence[str], scopes: Mapping[str, str]) -> None:
    """Draw what each tenth of an utterance, and each group of features, carries of each emotion's answers.

    Parameters
    ----------
    path : Path
    table : pd.DataFrame
        As `explain.occlusions` gives it.
    labels : sequence of str
    scopes : mapping of str to str
        What each scope of the table is, in words.
    """
    found = [scope for scope in scopes if scope in set(table["scope"])]
    with drawing(path, width=11.5, height=(0.36 * len(labels) + 1.5) * len(found) + 0.6) as figure:
        figure.suptitle("What an answer rests on: log-odds lost when a piece is hidden")
        groups = table.loc[table["hidden"] == "features", "piece"].nunique()
        grid = figure.subplots(len(found), 2, squeeze=False, width_ratios=[10, max(groups, 4)])
        for row, scope in zip(grid, found, strict=True):
            own = table[table["scope"] == scope]
            for axes, hidden in zip(row, ("time", "features"), strict=True):
                part = own[own["hidden"] == hidden]
                values = part.pivot(index="emotion", columns="piece", values="log_odds")
                values = values.reindex(index=list(labels), columns=list(dict.fromkeys(part["piece"])))
                # the two kinds of pieces are of unequal size, so each has a scale of its own
                high = float(table.loc[table["hidden"] == hidden, "log_odds"].abs().max()) or 1.0
                image = _heat(axes, values.to_numpy(), high, [str(name) for name in values.columns])
                counts = part.drop_duplicates("emotion").set_index("emotion")["utterances"]
                if hidden == "time":
                    names = [f"{_words(one)} ({counts.get(one, 0)})" for one in labels]
                    axes.set_yticks(range(len(labels)), names)
                    axes.set(xlabel="tenth of the utterance that is hidden", ylabel="heard as (utterances)")
                else:
                    axes.set_yticks(range(len(labels)), [""] * len(labels))
                    axes.set_xticks(range(values.shape[1]), list(values.columns), rotation=30, ha="right")
                axes.set_title(f"{scopes[scope]}: {'when' if hidden == 'time' else 'what'}")
                figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02, label="nats")


def draw_single_features(path: Path, table: pd.DataFrame, labels: Sequence[str], scopes: Mapping[str, str]) -> None:
    """Draw what each coefficient and track by itself carries of an answer; takes what `draw_occlusion` does."""
    own = table[table["hidden"] == "one feature"]
    found = [scope for scope in scopes if scope in set(own["scope"])]
    high = float(own["log_odds"].abs().max()) or 1.0
    with drawing(path, width=11.5, height=(0.3 * len(labels) + 1.2) * len(found) + 0.6) as figure:
        figure.suptitle("What an answer rests on: log-odds lost when one feature is hidden")
        for axes, scope in zip(figure.subplots(len(found), 1, squeeze=False)[:, 0], found, strict=True):
            part = own[own["scope"] == scope]
            values = part.pivot(index="emotion", columns="piece", values="log_odds")
            values = values.reindex(index=list(labels), columns=list(dict.fromkeys(part["piece"])))
            image = axes.imshow(
                np.ma.masked_invalid(values.to_numpy()), cmap=_DIVERGING, vmin=-high, vmax=high, aspect="auto"
            )
            axes.set_facecolor("#cccccc")
            axes.grid(visible=False)
            axes.set_yticks(range(len(labels)), [_words(one) for one in labels])
            axes.set_xticks(range(values.shape[1]), list(values.columns), rotation=90, fontsize=8)
            axes.set(ylabel="heard as", title=scopes[scope])
            figure.colorbar(image, ax=axes, shrink=0.85, pad=0.01, label="nats")


def draw_occluded_utterances(path: Path, examples: Sequence[OccludedUtterance]) -> None:
    """Draw utterances as spectrograms, each beside what a window that hides a piece of it takes from the answer."""
    end = max(len(one.wave) / one.sample_rate for one in examples)
    high = max(float(np.quantile(np.abs(one.lost), 0.995)) for one in examples) or 1.0
    with drawing(path, width=11.5, height=1.75 * len(examples) + 1.0) as figure:
        figure.suptitle("Single utterances: a window of 0.2 s, hidden at each place")
        grid = figure.subplots(len(examples), 2, sharex=True, squeeze=False)
        heat: Any = None
        sound: Any = None
        for (left, right), one in zip(grid, examples, strict=True):
            sound = _spectrogram(left, one.wave, one.sample_rate)
            left.set_title(one.title)
            right.set_title(one.heard)
            half = one.step / 2
            last = one.start + (one.lost.shape[1] - 1) * one.step
            heat = right.imshow(
                one.lost,
                cmap=_DIVERGING,
                vmin=-high,
                vmax=high,
                aspect="auto",
                interpolation="nearest",
                extent=(one.start - half, last + half, len(one.groups) - 0.5, -0.5),
            )
            right.axhline(0.5, color="black", lw=0.8)
            right.set_yticks(range(len(one.groups)), list(one.groups), fontsize=8)
            right.grid(visible=False)
            for axes in (left, right):
                axes.set_xlim(0, end)
        for axes in grid[-1]:
            axes.set_xlabel("time (s)")
        figure.colorbar(sound, ax=grid[:, 0], location="bottom", shrink=0.6, aspect=40, pad=0.01, label="dB")
        figure.colorbar(
            heat,
            ax=grid[:, 1],
            location="bottom",
            shrink=0.6,
            aspect=40,
            pad=0.01,
            label="log-odds of the answer lost (nats)",
        )


def draw_embeddings(path: Path, points: pd.DataFrame, labels: Sequence[str]) -> None:
    """Draw the map of each network's last layer, coloured by emotion above and by speaker below."""
    spaces = list(dict.fromkeys(points["space"]))
    speakers = sorted(set(points["speaker"]))
    with drawing(path, width=3.4 * len(spaces) + 1.7, height=7.2) as figure:
        figure.suptitle("What lies near what in the last layer (t-SNE)")
        grid = figure.subplots(2, len(spaces), squeeze=False)
        for column, space in enumerate(spaces):
            rows = points[points["space"] == space]
            grid[0, column].set_title(space)
            for axes, name, values in ((grid[0, column], "emotion", labels), (grid[1, column], "speaker", speakers)):
                for number, value in enumerate(values):
                    chosen = rows[rows[name] == value]
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
                axes.set(xticks=[], yticks=[])
                axes.grid(visible=False)
        grid[0, 0].set_ylabel("by emotion")
        grid[1, 0].set_ylabel("by speaker")
        for axes, title, values in ((grid[0, -1], "emotion", labels), (grid[1, -1], "speaker", speakers)):
            if len(values) <= 2 * len(COLOURS):
                axes.legend(title=title, loc="center left", bbox_to_anchor=(1.02, 0.5), markerscale=2.2)


def draw_errors(path: Path, wrong: pd.DataFrame, waves: Sequence[np.ndarray], sample_rate: int) -> None:
    """Draw the spectrograms of utterances that were confidently heard as something else."""
    columns = min(4, len(wrong))
    lines = -(-len(wrong) // columns)
    end = max(len(wave) for wave in waves) / sample_rate
    with drawing(path, width=3.4 * columns + 0.6, height=2.7 * lines + 0.7) as figure:
        protocol = wrong["protocol"].iloc[0]
        figure.suptitle(f"Wrong and sure of it: {_PROTOCOLS.get(protocol, protocol)}")
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        image: Any = None
        for axes, wave, row in zip(grid.ravel(), waves, wrong.to_dict("records"), strict=False):
            image = _spectrogram(axes, wave, sample_rate)
            axes.set_title(
                f"“{row['text'] or row['id']}”, {row['speaker']}\n{_words(row['emotion'])}, heard as\n"
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
    "speaker": "a voice that was never heard in training",
    "word": "words that were never heard in training",
    "random": "recordings that were never heard in training",
}

_BOX_COLOURS: Final[Mapping[str, str]] = {
    "frames": "#d9ecf7",
    "LSTM": "#bfe3d6",
    "bidirectional LSTM": "#bfe3d6",
    "pooling over time": "#f7e3b5",
    "dense": "#f3d0c0",
    "output": "#e9cfe0",
}


def _dropouts(layers: Sequence[Layer]) -> list[str]:
    """Return, for each layer that is drawn, the dropout that follows it; empty: none."""
    found: list[str] = []
    for layer in layers:
        if layer.kind == "dropout":
            found[-1] = layer.detail.partition(" ")[0]
        else:
            found.append("")
    return found


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


def _shortened(labels: Sequence[str]) -> list[str]:
    shown = [_words(label) for label in labels]
    return shown if len(shown) <= 8 else [*shown[:6], f"… ({len(shown)} in all)"]


def _words(label: object) -> str:
    return str(label).replace("_", " ")
