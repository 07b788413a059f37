import itertools
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import recordings
from helpers.tiny_package import make_package
from speech_emotion.app import examples, page, plots, uploads
from speech_emotion.app.analysis import FRAMES, PLACES, analyse, attend
from speech_emotion.audio.decode import AudioError, Sound
from speech_emotion.config.serving import WindowSettings
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.windows import Listener
from speech_emotion.registry.model_resolution import load


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener(load())


def test_prediction_is_that_of_the_server(listener: Listener) -> None:
    recording = recordings.encoded(recordings.tone(7.0, rate=44100), rate=44100)

    analysis = analyse(listener, recording)

    assert analysis.answer == listener(recording)
    assert len(analysis.answer.windows) == 4
    assert analysis.seconds == pytest.approx(7.0)


def test_attention_lies_where_there_is_sound(listener: Listener) -> None:
    # half a second of silence, which the features leave out, before and after
    wave = np.concatenate([np.zeros(8000), recordings.tone(1.5), np.zeros(8000)]).astype(np.float32)

    attention = analyse(listener, recordings.encoded(wave)).attention

    last = attention.start + (len(attention.lost) - 1) * attention.step
    assert 0.45 < attention.start < 0.7
    assert last < 2.05
    assert np.isfinite(attention.lost).all()
    assert np.abs(attention.lost).max() > 0


def test_a_minute_asks_the_network_for_no_more_than_it_may(listener: Listener) -> None:
    wave = recordings.tone(59.0)
    frames = len(listener.recognizer.frames(wave, recordings.RATE))

    attention = attend(listener.recognizer, Sound(wave[:, np.newaxis], recordings.RATE))

    assert 10 < len(attention.lost) <= PLACES
    assert len(attention.lost) * frames <= FRAMES + frames


def test_attention_needs_no_statistics_of_a_corpus(tmp_path: Path) -> None:
    make_package(tmp_path / "package")
    recognizer = Recognizer.load(tmp_path / "package")
    (tmp_path / "package" / "normalization.json").write_text('{"mean": null, "deviation": null}')

    assert np.isfinite(analyse(Listener(recognizer), recordings.encoded(recordings.tone())).attention.lost).all()


def test_names_and_labels_cannot_become_markup(listener: Listener) -> None:
    analysis = analyse(listener, recordings.encoded(recordings.tone()))

    shown = plots.verdict("<script>", analysis, plots.Notes("", "a & b")) + plots.refusal("<script>")

    assert "<script>" not in shown
    assert "a &amp; b" in shown


def test_an_unsure_answer_says_why_and_what_is_closest(listener: Listener) -> None:
    package = listener.recognizer.package
    notes = plots.Notes(page.why_not_sure(package), page.caveat(package))
    analysis = analyse(listener, recordings.encoded(recordings.tone()))
    unsure = replace(analysis, answer=replace(analysis.answer, whole=replace(analysis.answer.whole, sure=False)))

    shown = plots.verdict("tone", unsure, notes)

    assert '<p class="se-label">not sure</p>' in shown
    assert f"Closest is {analysis.answer.whole.label.replace('_', ' ')}" in shown
    assert package.description.rejection is not None
    assert f"Below {package.description.rejection.threshold:.0%} this model gives no answer" in shown


def test_details_load_nothing_from_anywhere(listener: Listener) -> None:
    analysis = analyse(listener, recordings.encoded(recordings.tone(7.0)))

    shown = plots.details(analysis, listener.recognizer.package.description.features)

    assert set(re.findall(r'(?:src|href)="([^:"]*):', shown)) == {"data"}
    assert "<script" not in shown
    assert shown.count('role="img"') == 4


def test_runs_join_windows_with_one_answer_and_cover_the_recording(listener: Listener) -> None:
    answer = Listener(listener.recognizer, WindowSettings(seconds=1.0, hop_seconds=0.5))(
        recordings.encoded(recordings.tone(6.0))
    )

    runs = plots.runs(answer.windows)

    assert runs[0][0] == answer.windows[0].start
    assert runs[-1][1] == answer.windows[-1].end
    assert [run[1] for run in runs[:-1]] == [run[0] for run in runs[1:]]
    assert all(first[2] != second[2] for first, second in itertools.pairwise(runs))


def test_a_package_without_a_card_says_so(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")

    assert page.small_print(package).startswith("This package has no model card")
    assert page.ALWAYS in page.small_print(package)
    assert page.why_not_sure(package) == ""


def test_an_upload_is_taken_once_and_leaves_nothing(tmp_path: Path) -> None:
    upload = tmp_path / "uploads" / "hash" / "a.wav"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(b"voice")

    assert uploads.take(upload, tmp_path / "uploads") == b"voice"

    assert list((tmp_path / "uploads").iterdir()) == []
    with pytest.raises(AudioError, match="Send it again"):
        uploads.take(upload, tmp_path / "uploads")


def test_only_uploads_are_taken(tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "mine.wav").write_bytes(b"voice")

    with pytest.raises(ValueError, match="is no upload"):
        uploads.take(tmp_path / "uploads" / ".." / "mine.wav", tmp_path / "uploads")

    assert (tmp_path / "mine.wav").exists()


def test_uploads_that_nobody_asks_about_are_swept(tmp_path: Path) -> None:
    old, new = tmp_path / "a" / "old.wav", tmp_path / "b" / "new.wav"
    for path in (old, new):
        path.parent.mkdir()
        path.write_bytes(b"voice")
    os.utime(old, (time.time() - 100, time.time() - 100))

    uploads.sweep(tmp_path, 60)

    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("example", examples.EXAMPLES)
def test_examples_are_voices_that_can_be_answered(listener: Listener, example: str, tmp_path: Path) -> None:
    answer = listener(examples.speak(example, tmp_path))

    assert bool(answer.windows) == (example == examples.CHANGING)


def test_the_toolkit_is_quiet_whatever_the_environment_says(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from speech_emotion.app.page import gradio\n"
        "gr = gradio()\n"
        "import inspect, huggingface_hub.constants as hub\n"
        "assert inspect.getfile(gr.Audio).endswith('audio.py')\n"
        "assert gr.Blocks().analytics_enabled is False and hub.HF_HUB_DISABLE_TELEMETRY\n"
        "assert 'GRADIO_SHARE' not in os.environ\n"
        "print(*sorted({'tensorflow', 'mlflow', 'matplotlib', 'plotly'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "True", "GRADIO_SHARE": "True"}

    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "\n"
