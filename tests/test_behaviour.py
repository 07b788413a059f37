"""What the model that comes with the software must not care about, on clips of TESS: its label stays the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soxr

import speech_emotion
from recordings import encoded
from speech_emotion.audio import decode
from speech_emotion.inference import Recognizer
from speech_emotion.loading import PRETRAINED

RATE = 24414
"""Of TESS, but for one clip."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    if not PRETRAINED.is_dir():
        pytest.skip("there is no pretrained package in this checkout")
    return speech_emotion.load()


@pytest.fixture(scope="module")
def waves(tess_dir: Path) -> list[np.ndarray]:
    """Every 28th clip."""
    return [decode(path).mono(RATE) for path in sorted(tess_dir.rglob("*.wav"))[::28]]


def resampled(wave: np.ndarray, rate: int) -> np.ndarray:
    return soxr.resample(wave, RATE, rate)


def with_noise(wave: np.ndarray, decibels: float) -> np.ndarray:
    noise = np.random.default_rng(len(wave)).standard_normal(len(wave)).astype(np.float32)
    return wave + noise * np.sqrt(np.mean(wave**2) / np.mean(noise**2)) * np.float32(10 ** (-decibels / 20))


CHANGES: dict[str, tuple[Callable[[np.ndarray], tuple], float]] = {
    "12 dB louder": (lambda wave: (wave * 4, RATE), 0.99),
    "12 dB softer": (lambda wave: (wave / 4, RATE), 0.99),
    "16 bits": (lambda wave: (encoded(wave, rate=RATE),), 0.99),
    "two channels": (lambda wave: (np.stack([wave, wave], axis=1), RATE), 0.99),
    "16 kHz": (lambda wave: (resampled(wave, 16000), 16000), 0.98),
    "44.1 kHz": (lambda wave: (resampled(wave, 44100), 44100), 0.98),
    "48 kHz": (lambda wave: (resampled(wave, 48000), 48000), 0.98),
    "MP3": (lambda wave: (encoded(resampled(wave, 44100), "MP3", rate=44100),), 0.95),
    "Opus": (lambda wave: (encoded(resampled(wave, 48000), "OGG", "OPUS", rate=48000),), 0.95),
    "noise, 40 dB below": (lambda wave: (with_noise(wave, 40), RATE), 0.9),
}
"""What is done to a clip, and the share of labels that must stay."""


@pytest.mark.parametrize("name", CHANGES)
def test_the_label_survives(recognizer: Recognizer, waves: list[np.ndarray], name: str) -> None:
    change, share = CHANGES[name]

    stayed = [recognizer.predict(wave, RATE).label == recognizer.predict(*change(wave)).label for wave in waves]

    assert np.mean(stayed) >= share
