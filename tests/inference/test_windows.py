from pathlib import Path

import numpy as np
import pytest

from helpers import recordings
from helpers.tiny_package import make_package
from speech_emotion.config.serving import WindowSettings
from speech_emotion.core.errors import UserError
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.windows import DEFAULT, FILE, WindowedRecognizer, settings_of, spans
from speech_emotion.models.package import Package

SETTINGS = WindowSettings(seconds=3.0, hop_seconds=1.5)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return make_package(tmp_path / "package")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.3, []),
        (3.0, []),
        (3.02, [(0.0, 3.0), (0.02, 3.02)]),
        (4.5, [(0.0, 3.0), (1.5, 4.5)]),
        (5.0, [(0.0, 3.0), (1.5, 4.5), (2.0, 5.0)]),
        (7.5, [(0.0, 3.0), (1.5, 4.5), (3.0, 6.0), (4.5, 7.5)]),
    ],
)
def test_spans(seconds: float, expected: list[tuple[float, float]]) -> None:
    assert spans(seconds, SETTINGS) == expected


def test_windows_agree_with_predict(package: Package) -> None:
    recognizer = Recognizer(package)
    sound = np.concatenate([recordings.tone(4.0), recordings.tone(3.0, hertz=500)])

    answer = WindowedRecognizer(recognizer, SETTINGS)(sound, recordings.RATE)

    assert answer.whole == recognizer.predict(sound, recordings.RATE)
    assert [(one.start, one.end) for one in answer.windows] == spans(7.0, SETTINGS)
    for one in answer.windows:
        part = sound[round(one.start * recordings.RATE) : round(one.end * recordings.RATE)]
        assert one.prediction.probabilities == pytest.approx(
            dict(recognizer.predict(part, recordings.RATE).probabilities), abs=1e-5
        )


def test_silent_windows_are_skipped(package: Package) -> None:
    sound = np.concatenate([recordings.tone(3.0), np.zeros(4 * recordings.RATE, np.float32)])

    answer = WindowedRecognizer(Recognizer(package), SETTINGS)(recordings.encoded(sound))

    assert [(one.start, one.end) for one in answer.windows] == [(0.0, 3.0), (1.5, 4.5)]


def test_settings_of_the_package(package: Package) -> None:
    assert settings_of(package) == DEFAULT

    settings = WindowSettings(seconds=1.0, hop_seconds=0.5)
    (package.folder / FILE).write_text(settings.model_dump_json())

    assert WindowedRecognizer(Recognizer.load(package.folder)).settings == settings
    (package.folder / FILE).write_text('{"seconds": 0}')
    with pytest.raises(UserError, match=r"windows\.json: damaged"):
        settings_of(package)
