from dataclasses import replace
from pathlib import Path

import pytest

from helpers import recordings
from speech_emotion.app import examples, wording
from speech_emotion.inference.recognizer import Prediction
from speech_emotion.inference.windows import Listener
from speech_emotion.registry.model_resolution import load


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener(load())


@pytest.fixture(scope="module")
def prediction(listener: Listener) -> Prediction:
    return listener(recordings.encoded(recordings.tone())).whole


def test_escapes_names_and_labels(listener: Listener, prediction: Prediction) -> None:
    found = replace(prediction, label="<b>", sure=True)

    shown = wording.verdict("<script>", 1.0, found, listener.recognizer) + wording.refusal("<script>")

    assert "<script>" not in shown
    assert "<b>" not in shown


def test_unsure_answer_names_closest_emotion(listener: Listener, prediction: Prediction) -> None:
    found = replace(prediction, sure=False)

    shown = wording.verdict("tone", 1.0, found, listener.recognizer)

    assert '<p class="se-label">not sure</p>' in shown
    assert f"Closest is {wording.words(found.label)}" in shown
    assert wording.why_not_sure(listener.recognizer.rejection) in shown


@pytest.mark.parametrize("example", examples.EXAMPLES)
def test_examples_can_be_predicted(listener: Listener, example: str, tmp_path: Path) -> None:
    answer = listener(examples.speak(example, tmp_path))

    assert bool(answer.windows) == (example == "changing")
