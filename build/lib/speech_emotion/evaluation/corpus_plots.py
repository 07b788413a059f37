"""Draw the corpus: counts, level and duration, and example utterances."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import librosa
import numpy as np
import pandas as pd
import seaborn

from speech_emotion.audio.decode import load
from speech_emotion.core.io import replacing_folder
from speech_emotion.evaluation.plots import COLOURS, drawing

SAMPLE_RATE: Final = 22050
"""Hz of the figures."""

_N_FFT: Final = 1024
_HOP: Final = 256
_HIGHEST_HZ: Final = 8000


@dataclass(frozen=True)
class _Example:
    """One utterance in three representations; frames are `_HOP` samples apart."""

    emotion: str
    wave: np.ndarray
    decibels: np.ndarray
    mfcc: np.ndarray


def draw_corpus(recordings: pd.DataFrame, raw: Path, target: Path) -> None:
    """Draw the figures of a corpus.

    Parameters
    ----------
    recordings : pd.DataFrame
        From audio_stats.csv.
    raw : Path
        The folder of recordings.
    target : Path
        The folder to write: `counts.png`, `confounds.png` (level and duration), `utterances.png` (one of each emotion).
    """
    emotions = sorted(set(recordings["emotion"]))
    with replacing_folder(target) as folder:
        draw_counts(folder / "counts.png", recordings, emotions)
        draw_confounds(folder / "confounds.png", recordings, emotions)
        draw_utterances(folder / "utterances.png", choose_examples(recordings), raw)


def choose_examples(recordings: pd.DataFrame) -> pd.DataFrame:
    """Return one utterance of each emotion, with the same speaker and text if there is such a set."""
    emotions = recordings["emotion"].nunique()
    for _, rows in recordings.sort_values("id").groupby(["speaker", "text"], sort=True):
        if rows["emotion"].nunique() == emotions:
            return rows.drop_duplicates("emotion").sort_values("emotion")
    return recordings.sort_values("id").drop_duplicates("emotion").sort_values("emotion")


def draw_counts(path: Path, recordings: pd.DataFrame, emotions: Sequence[str]) -> None:
    """Draw the number of utterances of each emotion, by speaker."""
    counts = recordings.groupby(["emotion", "speaker"]).size().unstack(fill_value=0).loc[list(emotions)]
    with drawing(path, width=7.5, height=0.42 * len(emotions) + 1.5) as figure:
        axes = figure.subplots()
        left = np.zeros(len(emotions))
        for colour, speaker in zip(COLOURS * len(counts.columns), counts.columns, strict=False):
            axes.barh(_words(emotions), counts[speaker], left=left, color=colour, label=speaker or "unknown")
            left += counts[speaker].to_numpy()
        for place, total in enumerate(left):
            axes.text(total, place, f" {total:.0f} ({100 * total / len(recordings):.1f} %)", va="center")
        axes.invert_yaxis()
        axes.set(xlabel="utterances", xlim=(0, left.max() * 1.25))
        axes.grid(visible=False, axis="y")
        figure.suptitle(f"{len(recordings):,} utterances by emotion")
        if len(counts.columns) <= len(COLOURS):
            figure.legend(loc="outside right upper", title="speaker")


def draw_confounds(path: Path, recordings: pd.DataFrame, emotions: Sequence[str]) -> None:
    """Draw level and duration by emotion and speaker: shortcuts that say nothing about speech."""
    rows = recordings.assign(emotion=_words(recordings["emotion"]))
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
    """Draw waveform, spectrogram and MFCCs of an utterance of each emotion, each column on one scale."""
    examples = [_example(emotion, raw / name) for emotion, name in zip(chosen["emotion"], chosen["path"], strict=True)]
    seconds = max(len(one.wave) for one in examples) / SAMPLE_RATE
    peak = max(float(np.abs(one.wave).max()) for one in examples)
    with drawing(path, width=11.0, height=1.3 * len(examples) + 1.2) as figure:
        speaker, text = chosen["speaker"].iloc[0], chosen["text"].iloc[0]
        same = chosen["text"].nunique() == 1
        figure.suptitle(f"“{text}” by speaker {speaker}" if same else "One utterance of each emotion")
        grid = figure.subplots(len(examples), 3, sharex=True, squeeze=False)
        for axes, one in zip(grid[:, 0], examples, strict=True):
            axes.plot(np.arange(len(one.wave)) / SAMPLE_RATE, one.wave, color=COLOURS[0], lw=0.4)
            axes.set(ylim=(-peak, peak), ylabel=one.emotion.replace("_", " "), xlim=(0, seconds))
        spectrograms = _images(grid[:, 1], [one.decibels for one in examples], "magma", top=SAMPLE_RATE / 2000)
        for axes in grid[:, 1]:
            axes.set(ylim=(0, _HIGHEST_HZ / 1000), ylabel="kHz")
        cepstra = _standardized([one.mfcc for one in examples])
        images = _images(grid[:, 2], cepstra, "cividis", top=len(cepstra[0]))
        for axes in grid[:, 2]:
            axes.set(ylabel="coefficient")
        for column, image, unit in ((1, spectrograms, "dB"), (2, images, "standard deviations from the mean")):
            figure.colorbar(image, ax=grid[:, column], location="bottom", shrink=0.9, aspect=30, pad=0.01, label=unit)
        for axes, title in zip(grid[0], ("waveform", "spectrogram", "MFCC"), strict=True):
            axes.set_title(title)
        for axes in grid.ravel():
            axes.grid(visible=False)
        for axes in grid[-1]:
            axes.set_xlabel("time (s)")


def _images(panels: np.ndarray, values: Sequence[np.ndarray], colours: str, *, top: float) -> Any:
    """Draw one representation of every example on one colour scale; return an image for the colour bar."""
    low, high = np.quantile(np.concatenate([one.ravel() for one in values]), [0.01, 0.99])
    image = None
    for axes, one in zip(panels, values, strict=True):
        # a mesh of polygons would take five times as long
        image = axes.imshow(
            one,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(0, one.shape[1] * _HOP / SAMPLE_RATE, 0, top),
            cmap=colours,
            vmin=low,
            vmax=high,
        )
    return image


def _example(emotion: str, path: Path) -> _Example:
    wave = load(path, SAMPLE_RATE)
    magnitude = np.abs(librosa.stft(wave, n_fft=_N_FFT, hop_length=_HOP))
    power = librosa.feature.melspectrogram(S=magnitude**2, sr=SAMPLE_RATE)
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(power), n_mfcc=20)[1:]
    return _Example(emotion, wave, librosa.amplitude_to_db(magnitude, ref=1.0, top_db=None).clip(-60, None), mfcc)


def _standardized(cepstra: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Standardize each coefficient over all utterances, so that rows compare."""
    everything = np.concatenate(cepstra, axis=1)
    mean, deviation = everything.mean(axis=1, keepdims=True), everything.std(axis=1, keepdims=True)
    return [(one - mean) / np.maximum(deviation, 1e-9) for one in cepstra]


def _words(labels: Sequence[str] | pd.Series) -> list[str]:
    return [label.replace("_", " ") for label in labels]
