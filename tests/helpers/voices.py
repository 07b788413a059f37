"""Make synthetic recordings that vary like those of a few speakers in a room."""

import numpy as np

from speech_emotion.audio.decode import Sound, decode, from_array
from speech_emotion.evaluation.robustness import by_telephone
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.monitoring.audio_stats import describe
from speech_emotion.monitoring.prediction_log import Entry, entry

RATE = 16000


def voices(count: int, *, seed: int, pitch: float = 200.0) -> list[np.ndarray]:
    """Return mono recordings at 16 kHz [shape=(n,)], float32: a gliding buzz that pauses, above a faint noise."""
    rng = np.random.default_rng(seed)
    return [_voice(rng, pitch) for _ in range(count)]


def _voice(rng: np.random.Generator, pitch: float) -> np.ndarray:
    time = np.arange(round(rng.uniform(0.8, 1.2) * RATE)) / RATE
    hertz = pitch * rng.lognormal(0, 0.1) * (1 + rng.uniform(0.02, 0.3) * np.sin(2 * np.pi * rng.uniform(1, 3) * time))
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    buzz = sum(np.sin(number * phase) / number for number in range(1, 14))
    said = np.sin(np.pi * time / time[-1]) ** 2 > 0.2
    level = 10 ** (rng.normal(-26, 3) / 20)
    return (level * buzz * said + 1e-3 * rng.standard_normal(len(time))).astype(np.float32)


def telephone(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Return what comes out of a telephone [shape=(n,)], float32, at 8 kHz."""
    (recording,) = by_telephone(waveform, rate, 0)
    assert isinstance(recording, bytes)
    return decode(recording).mono(8000)


def sounds(recordings: list[np.ndarray], rate: int = RATE) -> list[Sound]:
    return [from_array(one, rate) for one in recordings]


def logged(recognizer: Recognizer, recorded: list[Sound]) -> list[Entry]:
    """Return the rows of a log."""
    versions = {"model": "", "model_version": "", "package_digest": recognizer.package.digest}
    return [entry(describe(one), recognizer.predict(one.samples, one.sample_rate), versions) for one in recorded]
