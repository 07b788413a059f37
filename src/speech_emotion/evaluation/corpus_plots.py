"""Draw the corpus: counts, example utterances, level and duration, and speaker profiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import librosa
import numpy as np
import pandas as pd
import seaborn

from speech_emotion.audio.decode import load
from speech_emotion.core.io import replacing, replacing_folder
from speech_emotion.evaluation.plots import COLOURS, drawing
from speech_emotion.evaluation.speaker_profiles import MEASURES, USUAL, profiles

SAMPLE_RATE: Final = 22050
"""Hz of the figures."""

_N_FFT: Final = 1024
_HOP: Final = 256
_HIGHEST_HZ: Final = 8000


@dataclass(frozen=True)
class _Example:
    """One utterance in four representations; frames are `_HOP` samples apart."""

    emotion: str
    wave: np.ndarray
    decibels: np.ndarray
    chroma: np.ndarray
    mfcc: np.ndarray


def draw_corpus(manifest: pd.DataFrame, raw: Path, target: Path) -> None:
    """Draw the figures of a corpus.

    Parameters
    ----------
    manifest : pd.DataFrame
        From audio_stats.csv.
    raw : Path
        The folder of recordings.
    target : Path
        The folder to write: `counts.png`, `confounds.png` (level and duration), `utterances.png` (one utterance of each
        emotion), `profiles.csv` and `profiles.png` (what each speaker changes for each emotion).
    """
    emotions = sorted(set(manifest["emotion"]))
    with replacing_folder(target) as folder:
        draw_counts(folder / "counts.png", manifest, emotions)
        draw_confounds(folder / "confounds.png", manifest, emotions)
        chosen = choose_examples(manifest)
        draw_utterances(folder / "utterances.png", chosen, raw)
        found = profiles(manifest, raw)
        with replacing(folder / "profiles.csv") as aside:
            found.to_csv(aside, index=False, lineterminator="\n", float_format="%.4f")
        draw_profiles(folder / "profiles.png", found)


def choose_examples(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return one utterance of each emotion, with the same speaker and text if there is such a set."""
    emotions = manifest["emotion"].nunique()
    for _, rows in manifest.sort_values("id").groupby(["speaker", "text"], sort=True):
        if rows["emotion"].nunique() == emotions:
            return rows.drop_duplicates("emotion").sort_values("emotion")
    return manifest.sort_values("id").drop_duplicates("emotion").sort_values("emotion")


def draw_counts(path: Path, manifest: pd.DataFrame, emotions: Sequence[str]) -> None:
    """Draw the number of utterances of each emotion, by speaker."""
    counts = manifest.groupby(["emotion", "speaker"]).size().unstack(fill_value=0).loc[list(emotions)]
    with drawing(path, width=7.5, height=0.42 * len(emotions) + 1.5) as figure:
        axes = figure.subplots()
        left = np.zeros(len(emotions))
        for colour, speaker in zip(COLOURS * len(counts.columns), counts.columns, strict=False):
            axes.barh(_words(emotions), counts[speaker], left=left, color=colour, label=speaker or "unknown")
            left += counts[speaker].to_numpy()
        for place, total in enumerate(left):
            axes.text(total, place, f" {total:.0f} ({100 * total / len(manifest):.1f} %)", va="center")
        axes.invert_yaxis()
        axes.set(xlabel="utterances", xlim=(0, left.max() * 1.25))
        axes.grid(visible=False, axis="y")
        figure.suptitle(f"{len(manifest)} utterances")
        if len(counts.columns) <= len(COLOURS):
            figure.legend(loc="outside right upper", title="speaker")


def draw_confounds(path: Path, manifest: pd.DataFrame, emotions: Sequence[str]) -> None:
    """Draw level and duration by emotion and speaker: shortcuts that say nothing about speech."""
    rows = manifest.assign(emotion=[label.replace("_", " ") for label in manifest["emotion"]])
    speakers = sorted(set(rows["speaker"]))
    with drawing(path, width=11.0, height=4.6) as figure:
        figure.suptitle("Level and duration by speaker and emotion")
        panels = {"level_dbfs": "level (RMS, dB below full scale)", "seconds": "duration (s)"}
        for axes, (column, label) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            seaborn.boxplot(
                rows,
                x="emotion",
                y=column,
                hue="speaker",
                order=_words(emotions),
                hue_order=speakers,
                palette=dict(zip(speakers, COLOURS * len(speakers), strict=False)),
                fliersize=1.5,
                linewidth=0.8,
                ax=axes,
                legend="full" if column == "seconds" and len(speakers) <= len(COLOURS) else False,
            )
            axes.set(xlabel="", ylabel=label)
            axes.set_xticks(range(len(emotions)), _words(emotions), rotation=35, ha="right")


def draw_utterances(path: Path, chosen: pd.DataFrame, raw: Path) -> None:
    """Draw wave, spectrogram, chromagram and MFCCs of an utterance of each emotion, each column on one scale."""
    examples = [_example(emotion, raw / path) for emotion, path in zip(chosen["emotion"], chosen["path"], strict=True)]
    seconds = max(len(one.wave) for one in examples) / SAMPLE_RATE
    with drawing(path, width=14.0, height=1.75 * len(examples) + 1.0) as figure:
        speaker, text = chosen["speaker"].iloc[0], chosen["text"].iloc[0]
        figure.suptitle(f"'{text}', {speaker}" if chosen["text"].nunique() == 1 else "one utterance of each emotion")
        grid = figure.subplots(len(examples), 4, sharex=True, squeeze=False)
        peak = max(float(np.abs(one.wave).max()) for one in examples)
        for row, one in zip(grid, examples, strict=True):
            row[0].plot(np.arange(len(one.wave)) / SAMPLE_RATE, one.wave, color=COLOURS[0], lw=0.4)
            row[0].set(ylim=(-peak, peak), ylabel=one.emotion.replace("_", "\n"), xlabel="")
        for column, (attribute, (colours, rows)) in enumerate(_PANELS.items(), start=1):
            values = [getattr(one, attribute) for one in examples]
            if attribute == "mfcc":
                values = _standardized(values)
            image = _column(grid[:, column], values, colours, rows)
            figure.colorbar(
                image, ax=grid[:, column], location="bottom", shrink=0.9, aspect=30, pad=0.01, label=_UNITS[attribute]
            )
        for axes, title in zip(grid[0], ("wave", "spectrogram", "chromagram", "MFCC"), strict=True):
            axes.set_title(title)
        for axes in grid.ravel():
            axes.set_xlim(0, seconds)
            axes.tick_params(labelbottom=False, labelsize="small")
            axes.grid(visible=False)
        for axes in grid[-1]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("time (s)")


def draw_profiles(path: Path, found: pd.DataFrame) -> None:
    """Draw how each speaker's emotions differ from how they usually speak, and whose emotion each is most like."""
    shown = sorted(set(found["speaker"]))[:_SPEAKERS]
    emotions = sorted(set(found["emotion"]))
    names = list(MEASURES)
    with drawing(path, width=12.5, height=(0.42 * len(emotions) + 0.5) * len(shown) + 2.2) as figure:
        usual = f"{USUAL} way of speaking" if USUAL in emotions else "mean over all emotions"
        figure.suptitle(f"What each speaker changes for an emotion, against their own {usual}")
        grid = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, speaker in zip(grid, shown, strict=True):
            rows = found[found["speaker"] == speaker].set_index("emotion").reindex(emotions)
            shades = rows[[f"z_{name}" for name in names]].to_numpy()
            image = axes.imshow(shades, cmap="PuOr_r", vmin=-_DEVIATIONS, vmax=_DEVIATIONS, aspect="auto")
            axes.grid(visible=False)
            for (row, column), shade in np.ndenumerate(shades):
                value = rows[names[column]].iloc[row]
                ink = "white" if abs(shade) > 0.75 * _DEVIATIONS else "black"
                if np.isfinite(value):
                    axes.text(
                        column,
                        row,
                        f"{value:+.{_PLACES.get(names[column], 1)}f}",
                        ha="center",
                        va="center",
                        color=ink,
                        fontsize=9,
                    )
            for row, (emotion, alike, whose) in enumerate(
                zip(emotions, rows["alike"], rows["alike_speaker"], strict=True)
            ):
                if isinstance(alike, str) and alike:
                    weight = "normal" if alike == emotion else "bold"
                    words = f"most like {whose}'s {alike.replace('_', ' ')}"
                    axes.text(len(names) - 0.4, row, words, va="center", fontsize=9, weight=weight)
            axes.set_yticks(range(len(emotions)), _words(emotions))
            axes.set_title(speaker or "unknown", loc="left")
        grid[-1].set_xticks(range(len(names)), [label.replace(" (", "\n(") for label in MEASURES.values()])
        bar = figure.colorbar(image, ax=list(grid), location="bottom", shrink=0.5, aspect=40, pad=0.02)
        bar.set_label("difference, in standard deviations of utterances of one speaker and emotion")


_SPEAKERS: Final = 4
"""Speakers that a picture has room for; the table beside it has all."""

_PLACES: Final = {"seconds": 2, "voiced": 2}
"""Decimals of measures that are small."""

_DEVIATIONS: Final = 4.0
"""Standard deviations at which a colour is full."""

_UNITS: Final = {
    "decibels": "dB",
    "chroma": "strength, the strongest 1",
    "mfcc": "deviations from the coefficient's mean,\nboth over all rows",
}


@dataclass(frozen=True)
class _Rows:
    """How the rows of a picture are named: what they span, and the ticks between."""

    label: str
    span: tuple[float, float]
    ticks: Mapping[float, str]
    shown: tuple[float, float]


_PANELS: Final[Mapping[str, tuple[str, _Rows]]] = {
    # a row lies around its value: half of its height below, half above
    "decibels": (
        "magma",
        _Rows(
            "Hz",
            (-0.5 * SAMPLE_RATE / _N_FFT, 0.5 * SAMPLE_RATE * (1 + 1 / _N_FFT)),
            {float(hertz): str(hertz) for hertz in range(0, _HIGHEST_HZ + 1, 2000)},
            (0, _HIGHEST_HZ),
        ),
    ),
    "chroma": (
        "viridis",
        _Rows("pitch class", (-0.5, 11.5), {0: "C", 2: "D", 4: "E", 5: "F", 7: "G", 9: "A", 11: "B"}, (-0.5, 11.5)),
    ),
    "mfcc": ("cividis", _Rows("coefficient", (-0.5, 18.5), {0: "1", 9: "10", 18: "19"}, (-0.5, 18.5))),
}


def _column(panels: np.ndarray, values: Sequence[np.ndarray], colours: str, rows: _Rows) -> Any:
    """Draw one kind of picture for every example on one colour scale; return an image to make its bar of."""
    everything = np.concatenate([one.ravel() for one in values])
    low, high = np.quantile(everything, [0.01, 0.99])
    image = None
    step = _HOP / SAMPLE_RATE
    for axes, one in zip(panels, values, strict=True):
        # an image, for its cells are equal: as meshes of polygons the whole picture takes five times as long
        image = axes.imshow(
            one,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(-step / 2, (one.shape[1] - 0.5) * step, *rows.span),
            cmap=colours,
            vmin=low,
            vmax=high,
        )
        axes.set(ylim=rows.shown, ylabel=rows.label)
        axes.set_yticks(list(rows.ticks), list(rows.ticks.values()))
    return image


def _example(emotion: str, path: Path) -> _Example:
    wave = load(path, SAMPLE_RATE)
    magnitude = np.abs(librosa.stft(wave, n_fft=_N_FFT, hop_length=_HOP))
    power = librosa.feature.melspectrogram(y=wave, sr=SAMPLE_RATE, n_fft=_N_FFT, hop_length=_HOP)
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(power), n_mfcc=20)[1:]
    return _Example(
        emotion,
        wave,
        librosa.amplitude_to_db(magnitude, ref=1.0, top_db=None).clip(-60, None),
        # speech has no tuning to be estimated, and librosa's estimate ends the process with numba 0.68
        librosa.feature.chroma_stft(S=magnitude**2, sr=SAMPLE_RATE, n_fft=_N_FFT, hop_length=_HOP, tuning=0.0),
        mfcc,
    )


def _standardized(cepstra: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return each coefficient less its mean, in its deviations, both over all utterances: so that rows compare."""
    everything = np.concatenate(cepstra, axis=1)
    mean, deviation = everything.mean(axis=1, keepdims=True), everything.std(axis=1, keepdims=True)
    return [(one - mean) / np.maximum(deviation, 1e-9) for one in cepstra]


def _words(labels: Sequence[str]) -> list[str]:
    return [label.replace("_", " ") for label in labels]
