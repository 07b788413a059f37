"""What the model that comes with the software must not care about, on clips of TESS: its label stays the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soxr

import speech_emotion
from helpers.recordings import encoded
from speech_emotion.audio.decode import decode
from speech_emotion.evaluation.robustness import CONDITIONS
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.registry.model_resolution import PRETRAINED

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


CHANGES: dict[str, tuple[Callable[[np.ndarray], tuple], float]] = {
    "16 bits": (lambda wave: (encoded(wave, rate=RATE),), 0.99),
    "two channels": (lambda wave: (np.stack([wave, wave], axis=1), RATE), 0.99),
    "Opus": (lambda wave: (encoded(soxr.resample(wave, RATE, 48000), "OGG", "OPUS", rate=48000),), 0.95),
}
"""What is done to a clip, and the share of labels that must stay."""

LEAST = {"white noise at 20 dB": 0.9, "8 kHz": 0.95, "MP3, 64 kbit/s": 0.95, "telephone": 0.85}
"""The same for the conditions of the robustness table; 0.98 for those that are not named."""


@pytest.mark.parametrize("name", CHANGES)
def test_the_label_survives(recognizer: Recognizer, waves: list[np.ndarray], name: str) -> None:
    change, share = CHANGES[name]

    stayed = [recognizer.predict(wave, RATE).label == recognizer.predict(*change(wave)).label for wave in waves]

    assert np.mean(stayed) >= share


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_label_survives_every_condition_of_the_robustness_table(
    recognizer: Recognizer, waves: list[np.ndarray], name: str
) -> None:
    change = CONDITIONS[name]

    stayed = [
        recognizer.predict(wave, RATE).label == recognizer.predict(*change(wave, RATE, number)).label
        for number, wave in enumerate(waves)
    ]

    assert np.mean(stayed) >= LEAST.get(name, 0.98)
