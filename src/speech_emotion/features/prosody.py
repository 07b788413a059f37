"""Compute ten prosodic tracks per frame, such as F0, energy and spectral slopes.

F0 and energy are relative to the utterance, so that a louder recording or a higher voice does not look like another
emotion, or absolute, so that a speaker profile can be subtracted. In NumPy for the same reason as `mfcc`.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import soxr

TRACKS: Final = (
    *("f0", "voicing", "energy", "alpha_ratio", "centroid", "flatness"),
    *("harmonicity", "slope_low", "slope_mid", "flux"),
)
"""Names of the columns; see `tracks`."""

F0_MIN: Final = 65.0
F0_MAX: Final = 650.0
F0_REFERENCE: Final = 55.0
"""Hz, 0 semitones of absolute F0."""
_USUAL_F0: Final = 160.0
"""Hz, of an utterance without a voiced frame."""
_YIN_RATE: Final = 4000.0
"""Hz. Enough for F0 up to 650 Hz, at a third of the time of 16 kHz."""
_WINDOW_SECONDS: Final = 0.04
_TROUGH: Final = 0.15  # YIN's absolute threshold: the first dip below it is the period
_VOICED: Final = 0.6
_LOUD_DB: Final = -35.0
_FLOOR: Final = 1e-6  # 60 dB below the loudest bin: fainter parts are room noise
_ENERGY_FLOOR_DB: Final = -60.0
_SLOPES_HZ: Final = ((50.0, 500.0), (500.0, 1500.0))


def tracks(
    waveform: np.ndarray,
    power: np.ndarray,
    mel_db: np.ndarray,
    *,
    sample_rate: int,
    hop_length: int,
    relative: bool,
) -> np.ndarray:
    """Return the prosodic tracks of a waveform.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n,)], float32
        Samples at `sample_rate`.
    power : np.ndarray [shape=(t, 1 + n_fft // 2)], float32
        Its power spectra; frames are centred every `hop_length` samples.
    mel_db : np.ndarray [shape=(t, n_mels)], float32
        Its mel spectra in dB.
    sample_rate : int
        Hz.
    hop_length : int
    relative : bool
        Whether F0 and energy are relative to the utterance.

    Returns
    -------
    np.ndarray [shape=(t, 10)], float32
        Columns `TRACKS`: F0 in semitones relative to the median of the voiced frames, or to 55 Hz (interpolated between
        voiced frames); voicing from 0 to 1; energy in dB relative to the loudest frame, at least -60, or absolute;
        alpha ratio, 1 to 5 kHz over 50 Hz to 1 kHz, in dB; spectral centroid in kHz; spectral flatness in dB;
        harmonicity, the voicing in dB, from 0 to 30; slopes of the spectrum between 50 and 500 Hz and between 500 and
        1500 Hz, in dB per kHz; flux, the mean change of the mel spectrum since the last frame, in dB. Most follow
        GeMAPS (Eyben et al., 2016).
    """
    f0, voicing = yin(waveform, frames=len(power), sample_rate=sample_rate, hop_length=hop_length)
    loudness = energy(power)
    loudest = 0.0 if relative else 10 * np.log10(max(float(power.sum(axis=1, dtype=np.float64).max()), 1e-10))
    floored = np.maximum(power, max(float(power.max()), 1e-10) * _FLOOR)
    of_power, of_decibels = _weights(sample_rate, power.shape[1])
    low, high, moment, mean = (floored @ of_power).T
    level, *slopes = (10 * np.log10(floored) @ of_decibels).T
    columns = [
        _semitones(f0, (voicing > _VOICED) & (loudness > _LOUD_DB), relative=relative),
        voicing,
        loudness + loudest,
        10 * np.log10(high / low),
        moment / mean,
        level - 10 * np.log10(mean),
        -10 * np.log10(np.maximum(1 - voicing, 1e-3)),
        *slopes,
        np.abs(np.diff(mel_db, axis=0, prepend=mel_db[:1])).mean(axis=1),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


@lru_cache(maxsize=4)
def _weights(sample_rate: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what `count` bins are multiplied by, both [shape=(count, columns)], float32.

    Columns for power: the energies from 50 Hz to 1 kHz and from 1 to 5 kHz, the moment in kHz and the mean. For dB: the
    mean, and least-squares slopes in dB per kHz.
    """
    bins = np.linspace(0, sample_rate / 2, count)
    mean = np.full(count, 1 / count)
    slopes = []
    for low, high in _SLOPES_HZ:
        inside = (bins >= low) & (bins <= high)
        centred = np.where(inside, bins - bins[inside].mean(), 0) / 1000
        slopes.append(centred / (centred @ centred))
    of_power = [(bins >= 50) & (bins < 1000), (bins >= 1000) & (bins < 5000), mean * bins / 1000, mean]
    return np.stack(of_power, axis=1).astype(np.float32), np.stack([mean, *slopes], axis=1).astype(np.float32)


def energy(power: np.ndarray) -> np.ndarray:
    """Return the energy of each frame in dB relative to the loudest one [shape=(t,)], at least -60."""
    sums = power.sum(axis=1, dtype=np.float64)
    loudest = float(sums.max())
    if not loudest:
        return np.zeros(len(sums))
    return np.maximum(10 * np.log10(np.maximum(sums / loudest, 1e-10)), _ENERGY_FLOOR_DB)


def yin(waveform: np.ndarray, *, frames: int, sample_rate: int, hop_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the fundamental frequency in Hz and the voicing of each frame, both [shape=(frames,)], float64.

    YIN (de Cheveigné and Kawahara, 2002, steps 1 to 5) over windows of 40 ms at 4 kHz, between 65 and 650 Hz. Voicing
    is 1 minus YIN's normalized difference at the period, at least 0. F0 is meaningful where voicing is high.
    """
    rate = min(_YIN_RATE, sample_rate)
    waveform = soxr.resample(waveform, sample_rate, rate, "MQ")
    window = round(_WINDOW_SECONDS * rate)
    shortest, longest = int(rate / F0_MAX), int(np.ceil(rate / F0_MIN))
    span = window + longest + 1
    padded = np.zeros(len(waveform) + 3 * span, np.float32)
    padded[span // 2 :][: len(waveform)] = waveform
    starts = np.rint(np.arange(frames) * (hop_length * rate / sample_rate)).astype(int)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, span)[starts]
    size = 1 << (span - 1).bit_length()
    spectrum = np.fft.rfft(pieces, size, axis=1) * np.fft.rfft(pieces[:, :window], size, axis=1).conj()
    correlation = np.fft.irfft(spectrum, size, axis=1)[:, : longest + 2]
    sums = np.zeros(len(padded) + 1)
    np.cumsum(padded * padded, dtype=np.float64, out=sums[1:])
    begins = starts[:, None] + np.arange(longest + 2)
    energies = (sums[begins + window] - sums[begins]).astype(np.float32)
    difference = np.maximum(energies[:, :1] + energies - 2 * correlation, 0)
    # a silent frame has no differences and is not periodic: 1 everywhere
    lags = np.arange(1, difference.shape[1])
    total = np.cumsum(difference[:, 1:], axis=1)
    normalized = np.ones_like(difference)
    np.divide(difference[:, 1:] * lags, total, out=normalized[:, 1:], where=total > 1e-12)
    lag = _periods(normalized, shortest, longest)
    before, at, after = np.take_along_axis(normalized, lag[:, None] + [-1, 0, 1], axis=1).T
    curvature = before + after - 2 * at
    shift = np.where(curvature > 1e-9, 0.5 * (before - after) / np.where(curvature > 1e-9, curvature, 1), 0)
    shift = np.clip(shift, -0.5, 0.5)
    return rate / (lag + shift), np.clip(1 - at + 0.25 * (before - after) * shift, 0, 1)


def _periods(normalized: np.ndarray, shortest: int, longest: int) -> np.ndarray:
    """Return the period of each frame in samples: the first trough below the threshold, or else the deepest."""
    inner = normalized[:, shortest : longest + 1]
    trough = (inner <= normalized[:, shortest - 1 : longest]) & (inner < normalized[:, shortest + 1 : longest + 2])
    good = trough & (inner < _TROUGH)
    return shortest + np.where(good.any(axis=1), good.argmax(axis=1), inner.argmin(axis=1))


def _semitones(f0: np.ndarray, voiced: np.ndarray, *, relative: bool) -> np.ndarray:
    places = np.flatnonzero(voiced)
    pitch = 12 * np.log2((f0[places] if len(places) else np.array([_USUAL_F0])) / F0_REFERENCE)
    pitch -= np.median(pitch) if relative else 0.0
    return np.interp(np.arange(len(f0)), places if len(places) else [0], pitch)
