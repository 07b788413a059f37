"""Takes mono samples at one sample rate; gives MFCC frames by librosa's definitions, time first.

librosa computes its window, mel filters and cosines anew at every call and imports for seconds; here they are made
once, with NumPy alone, so that the very same code serves featurize and the answer to a single clip. The tests hold
every number to `librosa.feature.mfcc` within 2e-3.
"""

from functools import lru_cache
from typing import Final

import numpy as np

from speech_emotion.files import digest_json
from speech_emotion.settings.featurize import FeaturizeSettings

ALGORITHM: Final = 1
"""Counts changes of this module that change its numbers; part of the digest of a feature specification."""

_POWER_FLOOR: Final = 1e-10
_TOP_DB: Final = 80.0
_DELTA_WIDTH: Final = 9


def spec_digest(settings: FeaturizeSettings) -> str:
    """Return the digest that names a feature specification: equal digests, equal features of equal audio."""
    return digest_json({"algorithm": ALGORITHM, "settings": settings.model_dump(mode="json")})


def coefficient_count(settings: FeaturizeSettings) -> int:
    """Return how many numbers a frame has."""
    return (settings.n_mfcc - (not settings.c0)) * (1 + settings.deltas)


class Extractor:
    """MFCCs of mono audio, with what does not depend on the audio computed once.

    Parameters
    ----------
    settings : FeaturizeSettings
        The feature specification.

    See Also
    --------
    librosa.feature.mfcc : the same numbers, coefficients first.

    Examples
    --------
    >>> extractor = Extractor(settings)  # doctest: +SKIP
    >>> extractor(np.zeros(16000, np.float32)).shape  # doctest: +SKIP
    (51, 39)
    """

    def __init__(self, settings: FeaturizeSettings) -> None:
        self.settings = settings
        self._window = _hann_window(settings.win_length, settings.n_fft)
        self._mel = _mel_filters(
            settings.sample_rate, settings.n_fft, settings.n_mels, settings.f_min, settings.f_max
        ).T.copy()
        self._cosines = _dct_matrix(settings.n_mfcc, settings.n_mels).T.copy()

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """Return the frames of a waveform.

        Parameters
        ----------
        waveform : np.ndarray [shape=(n,)], float32
            Samples between -1 and 1 at `settings.sample_rate`; at least one.

        Returns
        -------
        np.ndarray [shape=(1 + n // hop_length, coefficients)], float32
            librosa puts the coefficients first; here, and in all that follows, time comes first, as Keras has it.
        """
        mfcc = self.log_mel(waveform) @ self._cosines
        if not self.settings.c0:
            mfcc = mfcc[:, 1:]
        orders = [mfcc, *(delta(mfcc, order) for order in range(1, self.settings.deltas + 1))]
        return _normalize(np.concatenate(orders, axis=1), self.settings.utterance_normalization)

    def log_mel(self, waveform: np.ndarray) -> np.ndarray:
        """Return the mel spectrogram in dB, at most 80 dB below its own peak [shape=(t, n_mels)], float32."""
        padding = self.settings.n_fft // 2
        padded = np.pad(waveform.astype(np.float32, copy=False), padding)
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.settings.n_fft)[:: self.settings.hop_length]
        spectrum = np.fft.rfft(windows * self._window, axis=1)
        # |z|^2 without the square root that abs() would take
        power = spectrum.real**2 + spectrum.imag**2
        decibels = 10.0 * np.log10(np.maximum(power @ self._mel, np.float32(_POWER_FLOOR)))
        return np.maximum(decibels, decibels.max() - np.float32(_TOP_DB))


def delta(frames: np.ndarray, order: int) -> np.ndarray:
    """Return the local slope (order 1) or curvature (order 2) of each coefficient over nine frames.

    Parameters
    ----------
    frames : np.ndarray [shape=(t, c)], float32
    order : int
        1 or 2.

    Returns
    -------
    np.ndarray [shape=(t, c)], float32
        Zero where there are too few frames to fit a polynomial of that order. From nine frames on it is
        `librosa.feature.delta` (a Savitzky-Golay filter, its ends by the polynomial fitted there).
    """
    width = min(_DELTA_WIDTH, len(frames) - (len(frames) + 1) % 2)
    if width <= order:
        return np.zeros_like(frames)
    offsets = np.arange(width) - width // 2
    # row `order` of the least-squares fit gives the polynomial's coefficient; its derivative is order! times that
    fit = np.linalg.pinv(np.vander(offsets, order + 1, increasing=True))[order] * (1 if order == 1 else 2)
    windows = np.lib.stride_tricks.sliding_window_view(frames, width, axis=0)
    inner = windows @ fit.astype(np.float32)
    before = width // 2
    return np.concatenate([np.repeat(inner[:1], before, 0), inner, np.repeat(inner[-1:], before, 0)])[: len(frames)]


def _normalize(frames: np.ndarray, how: str) -> np.ndarray:
    if how == "none":
        return np.ascontiguousarray(frames, dtype=np.float32)
    centred = frames - frames.mean(axis=0, dtype=np.float64)
    if how == "cmvn":
        centred /= frames.std(axis=0, dtype=np.float64) + 1e-3
    return centred.astype(np.float32)


def _hann_window(length: int, n_fft: int) -> np.ndarray:
    """Return a periodic Hann window centred in `n_fft` samples."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    left = (n_fft - length) // 2
    return np.pad(window, (left, n_fft - length - left)).astype(np.float32)


def _dct_matrix(count: int, length: int) -> np.ndarray:
    """Return the orthonormal DCT-II [shape=(count, length)]."""
    steps = np.pi * (np.arange(length) + 0.5) / length
    matrix = np.cos(np.outer(np.arange(count), steps)) * np.sqrt(2.0 / length)
    matrix[0] /= np.sqrt(2.0)
    return matrix.astype(np.float32)


@lru_cache(maxsize=8)
def _mel_filters(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float | None) -> np.ndarray:
    """Return triangular filters on Slaney's mel scale, each of unit area [shape=(n_mels, 1 + n_fft // 2)].

    The same as `librosa.filters.mel` (Slaney, Auditory Toolbox, 1998).
    """
    ends = _hz_to_mel(np.array([f_min, f_max or sample_rate / 2]))
    centres = _mel_to_hz(np.linspace(ends[0], ends[1], n_mels + 2))
    bins = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    slopes = centres[:, None] - bins[None, :]
    widths = np.diff(centres)
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return (filters * (2.0 / (centres[2:] - centres[:-2]))[:, None]).astype(np.float32)


_LINEAR_STEP: Final = 200.0 / 3
_LOG_START_HZ: Final = 1000.0
_LOG_STEP: Final = np.log(6.4) / 27.0


def _hz_to_mel(frequencies: np.ndarray) -> np.ndarray:
    above = np.maximum(frequencies, _LOG_START_HZ)
    logarithmic = _LOG_START_HZ / _LINEAR_STEP + np.log(above / _LOG_START_HZ) / _LOG_STEP
    return np.where(frequencies >= _LOG_START_HZ, logarithmic, frequencies / _LINEAR_STEP)


def _mel_to_hz(mels: np.ndarray) -> np.ndarray:
    start = _LOG_START_HZ / _LINEAR_STEP
    return np.where(mels >= start, _LOG_START_HZ * np.exp(_LOG_STEP * (mels - start)), mels * _LINEAR_STEP)
