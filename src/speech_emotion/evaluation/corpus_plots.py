"""Draw the corpus: level and duration, and example utterances."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import librosa
import numpy as np
import pandas as pd
import seaborn

from speech_emotion.audio.decode import load
from speech_emotion.core.io import replacing_folder
from speech_emotion.evaluation.plots import COLOURS, drawing, words

SAMPLE_RATE: Final = 22050
"""Hz of the figures."""

_N_FFT: Final = 1024
_HOP: Final = 256
_HIGHEST_HZ: Final = 8000


def draw_corpus(recordings: pd.DataFrame, raw: Path, target: Path) -> None:
    """Draw `confounds.png` (level and duration) and `utterances.png` (one of each emotion).

    `recordings` is from audio_stats.csv; their paths are relative to `raw`.
    """
    emotions = sorted(set(recordings["emotion"]))
    with replacing_folder(target) as folder:
        draw_confounds(folder / "confounds.png", recordings, emotions)
        draw_utterances(folder / "utterances.png", choose_examples(recordings), raw)


def choose_examples(recordings: pd.DataFrame) -> pd.DataFrame:
    """Return one utterance of each emotion, with the same speaker and text if there is such a set."""
    emotions = recordings["emotion"].nunique()
    for _, rows in recordings.sort_values("id").groupby(["speaker", "text"], sort=True):
        if rows["emotion"].nunique() == emotions:
            return rows.drop_duplicates("emotion").sort_values("emotion")
    return recordings.sort_values("id").drop_duplicates("emotion").sort_values("emotion")


def draw_confounds(path: Path, recordings: pd.DataFrame, emotions: Sequence[str]) -> None:
    """Draw level and duration by emotion and speaker, or corpus: shortcuts that say nothing about speech.

    Many speakers of one corpus are one group.
    """
    group = "speaker" if recordings["speaker"].nunique() <= len(COLOURS) else "corpus"
    groups = sorted(set(recordings[group]))
    with drawing(path, width=11.0, height=4.6) as figure:
        figure.suptitle(f"Level and duration by emotion{f' and {group}' if len(groups) > 1 else ''}")
        panels = {"level_dbfs": "level (RMS, dB below full scale)", "seconds": "duration (s)"}
        for axes, (column, label) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            seaborn.boxplot(
                recordings,
                x="emotion",
                y=column,
                hue=group,
                order=emotions,
                hue_order=groups,
                palette=dict(zip(groups, itertools.cycle(COLOURS), strict=False)),
                fliersize=1.5,
                linewidth=0.8,
                ax=axes,
                legend="full" if column == "seconds" and len(groups) > 1 else False,
            )
            axes.set(xlabel="", ylabel=label)
            axes.set_xticks(range(len(emotions)), [words(name) for name in emotions], rotation=35, ha="right")
        if axes.get_legend():
            seaborn.move_legend(axes, "upper left", bbox_to_anchor=(1, 1))


def draw_utterances(path: Path, chosen: pd.DataFrame, raw: Path) -> None:
    """Draw waveform, spectrogram and MFCCs of an utterance of each emotion, each column on one scale."""
    waves = [load(raw / name, SAMPLE_RATE) for name in chosen["path"]]
    magnitudes = [np.abs(librosa.stft(wave, n_fft=_N_FFT, hop_length=_HOP)) for wave in waves]
    spectrograms = [librosa.amplitude_to_db(one, ref=1.0, top_db=None).clip(-60, None) for one in magnitudes]
    seconds = max(map(len, waves)) / SAMPLE_RATE
    peak = max(float(np.abs(wave).max()) for wave in waves)
    same = chosen["text"].nunique() == 1
    with drawing(path, width=11.0, height=1.3 * len(waves) + 1.2) as figure:
        speaker, text = chosen["speaker"].iloc[0], chosen["text"].iloc[0]
        figure.suptitle(f"“{text}” by speaker {speaker}" if same else "One utterance of each emotion")
        grid = figure.subplots(len(waves), 3, sharex=True, squeeze=False)
        for axes, wave, emotion in zip(grid[:, 0], waves, chosen["emotion"], strict=True):
            axes.plot(np.arange(len(wave)) / SAMPLE_RATE, wave, color=COLOURS[0], lw=0.4)
            axes.set(ylim=(-peak, peak), ylabel=words(emotion), xlim=(0, seconds))
        _images(grid[:, 1], spectrograms, "magma", top=SAMPLE_RATE / 2000, unit="dB")
        _images(grid[:, 2], _mfcc(magnitudes), "cividis", top=19, unit="standard deviations from the mean")
        for axes in grid[:, 1]:
            axes.set(ylim=(0, _HIGHEST_HZ / 1000), ylabel="kHz")
        for axes, title in zip(grid[0], ("waveform", "spectrogram", "MFCC"), strict=True):
            axes.set_title(title)
        for axes in grid[-1]:
            axes.set_xlabel("time (s)")


def _mfcc(magnitudes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the MFCCs of each utterance [shape=(19, t)], standardized over all utterances, so that rows compare."""
    mels = [librosa.feature.melspectrogram(S=one**2, sr=SAMPLE_RATE) for one in magnitudes]
    cepstra = [librosa.feature.mfcc(S=librosa.power_to_db(one), n_mfcc=20)[1:] for one in mels]
    everything = np.concatenate(cepstra, axis=1)
    mean, deviation = everything.mean(axis=1, keepdims=True), everything.std(axis=1, keepdims=True)
    return [(one - mean) / np.maximum(deviation, 1e-9) for one in cepstra]


def _images(panels: np.ndarray, values: Sequence[np.ndarray], colours: str, *, top: float, unit: str) -> None:
    """Draw one representation of every utterance on one colour scale."""
    low, high = np.quantile(np.concatenate([one.ravel() for one in values]), [0.01, 0.99])
    for axes, one in zip(panels, values, strict=True):
        extent = (0, one.shape[1] * _HOP / SAMPLE_RATE, 0, top)
        # a mesh of polygons would take five times as long
        axes.imshow(one, origin="lower", aspect="auto", extent=extent, cmap=colours, vmin=low, vmax=high)
        axes.grid(visible=False)
    image, figure = panels[0].images[0], panels[0].figure
    figure.colorbar(image, ax=panels, location="bottom", shrink=0.9, aspect=30, pad=0.01, label=unit)
