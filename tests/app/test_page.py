import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import recordings
from helpers.tiny_package import make_package
from speech_emotion.app import examples, wording
from speech_emotion.config.serving import WindowSettings
from speech_emotion.inference.windows import Listener
from speech_emotion.registry.model_resolution import load


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener(load())


def test_escapes_names_and_labels(listener: Listener) -> None:
    found = replace(listener(recordings.encoded(recordings.tone())).whole, label="<b>", sure=True)

    shown = wording.verdict("<script>", 1.0, found, listener.recognizer.package) + wording.refusal("<script>")

    assert "<script>" not in shown
    assert "<b>" not in shown


def test_unsure_answer_names_closest_emotion(listener: Listener) -> None:
    package = listener.recognizer.package
    found = replace(listener(recordings.encoded(recordings.tone())).whole, sure=False)

    shown = wording.verdict("tone", 1.0, found, package)

    assert '<p class="se-label">not sure</p>' in shown
    assert f"Closest is {wording.words(found.label)}" in shown
    assert package.description.rejection is not None
    assert f"Below {package.description.rejection.threshold:.0%}" in shown


def test_rows_are_the_windows(listener: Listener) -> None:
    windows = Listener(listener.recognizer, WindowSettings(seconds=1.0, hop_seconds=0.5))(
        recordings.encoded(recordings.tone(2.0))
    ).windows

    rows = wording.rows(windows)

    assert [row[0] for row in rows] == ["0.0 to 1.0", "0.5 to 1.5", "1.0 to 2.0"]
    assert [row[3] for row in rows] == [f"{window.prediction.confidence:.1%}" for window in windows]


def test_package_without_card(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")

    assert wording.small_print(package) == f"{wording.UNKNOWN}\n\n{wording.ALWAYS}"
    assert wording.why_not_sure(package) == ""


@pytest.mark.parametrize("example", examples.EXAMPLES)
def test_examples_can_be_predicted(listener: Listener, example: str, tmp_path: Path) -> None:
    answer = listener(examples.speak(example, tmp_path))

    assert bool(answer.windows) == (example == examples.CHANGING)


def test_gradio_is_quiet(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from speech_emotion.app.page import gradio\n"
        "gr = gradio()\n"
        "import huggingface_hub.constants as hub\n"
        "assert gr.Blocks().analytics_enabled is False and hub.HF_HUB_DISABLE_TELEMETRY\n"
        "assert 'GRADIO_SHARE' not in os.environ\n"
        "print(*sorted({'tensorflow', 'mlflow', 'matplotlib', 'plotly'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "True", "GRADIO_SHARE": "True"}

    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert re.fullmatch(r"\s*", done.stdout)
