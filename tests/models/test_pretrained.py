"""Changes of a recording that must not change the label of the built-in model, on clips of TESS."""

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

RATE = 24414
"""Of TESS, but for one clip."""

pytestmark = pytest.mark.slow

Change = Callable[[np.ndarray, int, int], tuple]
"""Wave, rate and a seed → what `Recognizer.predict` takes."""

CHANGES: dict[str, tuple[Change, float]] = {
    "16 bits": (lambda wave, rate, seed: (encoded(wave, rate=rate),), 0.99),
    "two channels": (lambda wave, rate, seed: (np.stack([wave, wave], axis=1), rate), 0.99),
    "Opus": (lambda wave, rate, seed: (encoded(soxr.resample(wave, rate, 48000), "OGG", "OPUS", rate=48000),), 0.95),
}
"""Changes, with the share of labels that must stay."""

LEAST = {"white noise at 20 dB": 0.9, "8 kHz": 0.95, "MP3, 64 kbit/s": 0.95, "telephone": 0.85}
"""That share for conditions of the robustness table; .98 for the others."""


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return speech_emotion.load()


@pytest.fixture(scope="module")
def waves(tess_dir: Path) -> list[np.ndarray]:
    """Every 28th clip."""
    return [decode(path).mono(RATE) for path in sorted(tess_dir.rglob("*.wav"))[::28]]


@pytest.fixture(scope="module")
def labels(recognizer: Recognizer, waves: list[np.ndarray]) -> list[str]:
    return [recognizer.predict(wave, RATE).label for wave in waves]


@pytest.mark.parametrize("name", [*CHANGES, *CONDITIONS])
def test_label_survives(recognizer: Recognizer, waves: list[np.ndarray], labels: list[str], name: str) -> None:
    change, share = CHANGES.get(name) or (CONDITIONS[name], LEAST.get(name, 0.98))

    changed = [recognizer.predict(*change(wave, RATE, seed)).label for seed, wave in enumerate(waves)]

    assert np.mean(np.array(changed) == labels) >= share
