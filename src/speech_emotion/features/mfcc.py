"""Compute MFCC and prosody frames of mono audio, time first.

The MFCCs follow librosa's definitions; tests compare them with `librosa.feature.mfcc` (2e-3). They are computed in
NumPy because librosa takes seconds to import and recomputes its window and filters at every call. featurize and
prediction use the same code.
"""

from functools import lru_cache
from typing import Final

import numpy as np

from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.core.io import digest_json
from speech_emotion.features.prosody import TRACKS, energy, tracks

ALGORITHM: Final = 4
"""Increase this when the code, also that of prosody.py, changes a value: packages of other versions are refused."""

_POWER_FLOOR: Final = 1e-10
_TOP_DB: Final = 80.0
_DELTA_WIDTH: Final = 9
_KEPT_BYTES: Final = 2**24
_GROUP_SIZE: Final = 16


def spec_digest(settings: FeaturizeSettings) -> str:
    """Return the digest of the feature settings and the version of this code."""
    return digest_json({"algorithm": ALGORITHM, "settings": settings.model_dump(mode="json")})


def names(settings: FeaturizeSettings) -> tuple[str, ...]:
    """Return the names of the features of a frame: `mfcc_1`, …, `mfcc_1_delta`, …, `f0`, …."""
    cepstra = [f"mfcc_{number}" for number in range(0 if settings.c0 else 1, settings.n_mfcc)]
    orders = ["", "_delta", "_delta_delta"][: 1 + settings.deltas]
    return (*(name + order for order in orders for name in cepstra), *(TRACKS if settings.prosody else ()))


class Extractor:
    """Extract MFCCs and prosody from mono audio; window, filters and cosines are computed once.

    Parameters
    ----------
    settings : FeaturizeSettings
    warp : float
        Vocal tract length perturbation: the mel filters are moved so that formants are scaled by this factor; the
        highest frequency stays (Jaitly and Hinton, 2013). For augmentation; 1: none.

    See Also
    --------
    librosa.feature.mfcc : the same numbers, coefficients first.
    """

    def __init__(self, settings: FeaturizeSettings, *, warp: float = 1.0) -> None:
        _keep_freed_memory()
        self.settings = settings
        self._window = _hann_window(settings.win_length, settings.n_fft)
        self._mel = _filter_groups(
            _mel_filters(settings.sample_rate, settings.n_fft, settings.n_mels, settings.f_min, settings.f_max, warp)
        )
        self._cosines = dct_matrix(settings.n_mfcc, settings.n_mels).T.copy()

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """Return the frames of a waveform.

        Parameters
        ----------
        waveform : np.ndarray [shape=(n,)], float32
            Samples between -1 and 1 at `settings.sample_rate`; at least one.

        Returns
        -------
        np.ndarray [shape=(t, coefficients)], float32
            t is 1 + n // hop_length, minus the frames that `trim_db` removes. Time is first, as in Keras; librosa is
            feature-first.
        """
        power = self.power(waveform)
        mel_db = self._decibels(power)
        mfcc = mel_db @ self._cosines
        if not self.settings.c0:
            mfcc = mfcc[:, 1:]
        orders = [mfcc, *(delta(mfcc, order) for order in range(1, self.settings.deltas + 1))]
        kept = self._kept(power)
        cepstra = _normalize(np.concatenate(orders, axis=1)[kept], self.settings.utterance_normalization)
        if not self.settings.prosody:
            return cepstra
        rate, hop = self.settings.sample_rate, self.settings.hop_length
        relative = self.settings.utterance_normalization != "none"
        prosody = tracks(waveform, power, mel_db, sample_rate=rate, hop_length=hop, relative=relative)[kept]
        return np.concatenate([cepstra, prosody], axis=1)

    def log_mel(self, waveform: np.ndarray) -> np.ndarray:
        """Return the mel spectrogram in dB, at most 80 dB below its peak [shape=(t, n_mels)], float32."""
        return self._decibels(self.power(waveform))

    def power(self, waveform: np.ndarray) -> np.ndarray:
        """Return the power spectra of windows centred every hop [shape=(t, 1 + n_fft // 2)], float32."""
        padding = self.settings.n_fft // 2
        padded = np.pad(waveform.astype(np.float32, copy=False), padding)
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.settings.n_fft)[:: self.settings.hop_length]
        parts = np.fft.rfft(windows * self._window, axis=1).view(np.float32)
        # |z|^2 without the square root of abs(); real and imaginary parts are interleaved
        np.square(parts, out=parts)
        return parts[:, ::2] + parts[:, 1::2]

    def _decibels(self, power: np.ndarray) -> np.ndarray:
        mel = np.concatenate([power[:, bins] @ filters for bins, filters in self._mel], axis=1)
        decibels = 10.0 * np.log10(np.maximum(mel, np.float32(_POWER_FLOOR)))
        return np.maximum(decibels, decibels.max() - np.float32(_TOP_DB))

    def _kept(self, power: np.ndarray) -> slice:
        if self.settings.trim_db is None:
            return slice(None)
        loud = np.flatnonzero(energy(power) >= -self.settings.trim_db)
        return slice(loud[0], loud[-1] + 1)


def _keep_freed_memory() -> None:
    """Have glibc reuse freed memory for the next clip.

    Freeing a block of 16 MiB raises the threshold above which glibc returns memory to the system. Without this, the
    page faults of every clip take half of the time.
    """
    np.empty(_KEPT_BYTES, np.uint8)


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
        Zero where there are too few frames to fit a polynomial of that order. With nine frames or more it equals
        `librosa.feature.delta` (a Savitzky-Golay filter; the ends use the polynomial fitted there).
    """
    width = min(_DELTA_WIDTH, len(frames) - (len(frames) + 1) % 2)
    if width <= order:
        return np.zeros_like(frames)
    offsets = np.arange(width) - width // 2
    # row `order` of the least-squares fit is the coefficient of the polynomial; its derivative is order! times that
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


def dct_matrix(count: int, length: int) -> np.ndarray:
    """Return the orthonormal DCT-II [shape=(count, length)]."""
    steps = np.pi * (np.arange(length) + 0.5) / length
    matrix = np.cos(np.outer(np.arange(count), steps)) * np.sqrt(2.0 / length)
    matrix[0] /= np.sqrt(2.0)
    return matrix.astype(np.float32)


@lru_cache(maxsize=8)
def _mel_filters(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float | None, warp: float = 1.0
) -> np.ndarray:
    """Return triangular filters on Slaney's mel scale, each of unit area [shape=(n_mels, 1 + n_fft // 2)].

    Equal to `librosa.filters.mel` (Slaney, Auditory Toolbox, 1998).
    """
    centres = warped(_mel_edges(n_mels, f_min, f_max or sample_rate / 2), warp, sample_rate / 2)
    bins = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    slopes = centres[:, None] - bins[None, :]
    widths = np.diff(centres)
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return (filters * (2.0 / (centres[2:] - centres[:-2]))[:, None]).astype(np.float32)


def _filter_groups(filters: np.ndarray) -> list[tuple[slice, np.ndarray]]:
    """Return groups of filters, transposed, with the bins that each reads: a product with all bins is mostly zeros."""
    groups = []
    for some in np.split(filters, range(_GROUP_SIZE, len(filters), _GROUP_SIZE)):
        read = np.flatnonzero(some.any(axis=0))
        bins = slice(read[0], read[-1] + 1) if len(read) else slice(0)
        groups.append((bins, some[:, bins].T.copy()))
    return groups


def mel_centres(settings: FeaturizeSettings) -> np.ndarray:
    """Return the centre frequencies of the mel bands in Hz [shape=(n_mels,)]."""
    return _mel_edges(settings.n_mels, settings.f_min, settings.f_max or settings.sample_rate / 2)[1:-1]


def _mel_edges(n_mels: int, f_min: float, f_max: float) -> np.ndarray:
    low, high = _hz_to_mel(np.array([f_min, f_max]))
    return _mel_to_hz(np.linspace(low, high, n_mels + 2))


_KNEE_SHARE: Final = 0.6
"""Share of the Nyquist frequency below which the warp is a plain factor; above it, the warp is linear to the end."""


def warped(frequencies: np.ndarray, warp: float, nyquist: float) -> np.ndarray:
    """Return the frequencies [Hz] to read, so that formants move by the factor `warp` and `nyquist` stays."""
    if warp == 1.0:
        return frequencies
    # a formant at f / warp moves to f, so the filter at f reads f / warp
    knee = _KNEE_SHARE * nyquist * min(warp, 1.0)
    above = nyquist - (nyquist - frequencies) * (nyquist - knee / warp) / (nyquist - knee)
    return np.where(frequencies <= knee, frequencies / warp, above)


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
