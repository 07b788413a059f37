from dataclasses import replace
from pathlib import Path

import pytest

from helpers import recordings
from speech_emotion.app import examples, wording
from speech_emotion.inference.recognizer import Prediction
from speech_emotion.inference.windows import WindowedRecognizer
from speech_emotion.registry.model_resolution import load


@pytest.fixture(scope="module")
def windowed() -> WindowedRecognizer:
    return WindowedRecognizer(load())


@pytest.fixture(scope="module")
def prediction(windowed: WindowedRecognizer) -> Prediction:
    return windowed(recordings.encoded(recordings.tone())).whole


def test_escapes_names_and_labels(windowed: WindowedRecognizer, prediction: Prediction) -> None:
    found = replace(prediction, label="<b>", sure=True)

    shown = wording.verdict("<script>", 1.0, found, windowed.recognizer) + wording.refusal("<script>")

    assert "<script>" not in shown
    assert "<b>" not in shown


@pytest.mark.parametrize("example", examples.EXAMPLES)
def test_examples_can_be_predicted(windowed: WindowedRecognizer, example: str, tmp_path: Path) -> None:
    answer = windowed(examples.speak(example, tmp_path))

    assert bool(answer.windows) == (example == "changing")
