"""Takes a waveform; gives it with another slope of its spectrum, as another microphone or voice would have it."""

from typing import Final

import numpy as np

_PIVOT_HZ: Final = 1000.0
_TILTED_HZ: Final = (100.0, 8000.0)
"""Where the slope is changed; beyond it the gain stays what it is at the end."""


def tilted(waveform: np.ndarray, sample_rate: int, slope_db: float) -> np.ndarray:
    """Return a sound whose spectrum rises by `slope_db` dB an octave more than before, at the sound's own level.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n,)]
    sample_rate : int
        Hz.
    slope_db : float
        Between 100 Hz and 8 kHz.

    Returns
    -------
    np.ndarray [shape=(n,)], float64
    """
    spectrum = np.fft.rfft(waveform)
    frequencies = np.clip(np.fft.rfftfreq(len(waveform), 1.0 / sample_rate), *_TILTED_HZ)
    heard = np.fft.irfft(spectrum * 10.0 ** (slope_db * np.log2(frequencies / _PIVOT_HZ) / 20.0), len(waveform))
    return heard * (_rms(waveform) / max(_rms(heard), 1e-12))


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
