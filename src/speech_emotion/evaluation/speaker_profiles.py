"""Takes recordings; gives how each speaker says each emotion, against how they usually speak, and who else says it so.

What a model for a voice that it has never heard can learn is what speakers have in common. Here is what they have: no
model is trained, and no answer of one is looked at.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import librosa
import numpy as np
import pandas as pd

from speech_emotion.audio.decode import load
from speech_emotion.core.parallel import parallel_map
from speech_emotion.features.prosody import F0_MIN, tracks, yin

MEASURES: Final = {
    "level": "level (dB)",
    "pitch": "pitch (semitones)",
    "pitch_range": "pitch range (semitones)",
    "pitch_end": "pitch at the end (semitones)",
    "seconds": "length (s)",
    "voiced": "voiced share",
    "tilt": "treble over bass (dB)",
}
"""What is measured of an utterance, with its unit."""

USUAL: Final = "neutral"
"""The emotion against which a speaker's others are told; without it, the mean of all of theirs."""

MOST: Final = 100
"""Utterances of each speaker and emotion that are listened to."""

FEW: Final = 500
"""Up to so many are listened to in this process: others would not have started before it is done."""

_SAMPLE_RATE: Final = 16_000
_N_FFT: Final = 512
_HOP: Final = 320
_LOUD_DB: Final = -35.0
_VOICED: Final = 0.6
_END: Final = 5
"""Voiced frames at an utterance's end: a tenth of a second."""


def profiles(manifest: pd.DataFrame, raw: Path, *, workers: int | None = None) -> pd.DataFrame:
    """Measure every speaker's emotions.

    Parameters
    ----------
    manifest : pd.DataFrame
    raw : Path
        The tree of its recordings.
    workers : int or None
        Processes, for more than `FEW` recordings; None: one a core.

    Returns
    -------
    pd.DataFrame [columns=(speaker, emotion, utterances, *MEASURES, *(z_ and each), alike, alike_speaker)]
        A row a speaker and emotion. Each measure is the mean difference from the speaker's usual way, in its unit, and
        as `z_` in standard deviations of utterances of one speaker and emotion. `alike` is the emotion of another
        speaker, `alike_speaker`, that is nearest in those (Euclidean distance); empty where there is one speaker.
    """
    groups = manifest.sort_values("id").groupby(["speaker", "emotion"], sort=True)
    chosen = pd.concat([_some(rows, MOST) for _, rows in groups], ignore_index=True)
    paths = [raw / path for path in chosen["path"]]
    workers = 1 if len(paths) <= FEW else workers
    names = list(MEASURES)
    chosen[names] = np.array(list(parallel_map(measure, paths, workers=workers)))
    means = chosen.groupby(["speaker", "emotion"], sort=True)[names].mean()
    usual = {speaker: _usual(rows.droplevel("speaker")) for speaker, rows in means.groupby("speaker")}
    differences = means - pd.DataFrame([usual[speaker] for speaker, _ in means.index], index=means.index)
    spread = chosen.groupby(["speaker", "emotion"], sort=True)[names].std().mean()
    scaled = (differences / spread.where(spread > 0, 1.0)).fillna(0.0)
    found = differences.join(scaled.add_prefix("z_"))
    found.insert(0, "utterances", groups.size())
    alike = [_alike(scaled, speaker, emotion) for speaker, emotion in scaled.index]
    found["alike"] = [emotion for _, emotion in alike]
    found["alike_speaker"] = [speaker for speaker, _ in alike]
    return found.reset_index()


def measure(path: Path) -> tuple[float, ...]:
    """Return the measures of a recording, in the order of `MEASURES`; not a number where nothing is voiced."""
    wave = load(path, _SAMPLE_RATE)
    power = (np.abs(librosa.stft(wave, n_fft=_N_FFT, hop_length=_HOP)) ** 2).T
    columns = tracks(wave, power, sample_rate=_SAMPLE_RATE, hop_length=_HOP)
    f0, voicing = yin(wave, frames=len(power), sample_rate=_SAMPLE_RATE, hop_length=_HOP)
    loud = columns[:, 2] > _LOUD_DB
    voiced = loud & (voicing > _VOICED)
    pitch = 12 * np.log2(f0[voiced] / F0_MIN)
    level = 10 * np.log10(max(float(np.mean(wave.astype(np.float64) ** 2)), 1e-12))
    seconds, share, tilt = loud.sum() * _HOP / _SAMPLE_RATE, voiced.sum() / max(1, loud.sum()), columns[loud, 3].mean()
    if not len(pitch):
        return level, np.nan, np.nan, np.nan, float(seconds), float(share), float(tilt)
    low, middle, high = np.percentile(pitch, [10, 50, 90])
    return (
        level,
        float(middle),
        float(high - low),
        float(pitch[-_END:].mean() - middle),
        float(seconds),
        float(share),
        float(tilt),
    )


def _some(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return so many rows at most, evenly spread over all."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))
    return rows.iloc[places]


def _usual(emotions: pd.DataFrame) -> pd.Series:
    return emotions[emotions.index == USUAL].mean() if USUAL in emotions.index else emotions.mean()


def _alike(scaled: pd.DataFrame, speaker: str, emotion: str) -> tuple[str, str]:
    """Return whose emotion, of all others', lies nearest to a speaker's; empty strings where there is nobody else."""
    others = scaled[scaled.index.get_level_values("speaker") != speaker]
    if others.empty:
        return "", ""
    distances: Sequence[float] = np.linalg.norm(others - scaled.loc[(speaker, emotion)], axis=1).tolist()
    found: tuple[str, str] = others.index[int(np.argmin(distances))]
    return found
