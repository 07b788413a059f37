"""Apply a robustness condition and decode the result."""

import numpy as np

from speech_emotion.audio.decode import decode
from speech_emotion.evaluation.robustness import by_telephone


def telephone(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Return what comes out of a telephone [shape=(n,)], float32, at 8 kHz."""
    (recording,) = by_telephone(waveform, rate, 0)
    assert isinstance(recording, bytes)
    return decode(recording).mono(8000)
