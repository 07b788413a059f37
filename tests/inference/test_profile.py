from pathlib import Path

import numpy as np
import pytest

from helpers.recordings import RATE, encoded, tone
from speech_emotion.audio.decode import AudioError
from speech_emotion.core.errors import UserError
from speech_emotion.inference.profile import Profile
from speech_emotion.inference.recognizer import Recognizer


@pytest.fixture(scope="module")
def recognizer(enrolled_model: Path) -> Recognizer:
    return Recognizer.load(enrolled_model)


def test_profile_is_subtracted_and_has_its_own_calibration(recognizer: Recognizer) -> None:
    profile = recognizer.enroll([(tone(9.0))], RATE)
    enrolled = recognizer.with_profile(profile)

    plain, shifted = (one.frames(tone(), RATE) for one in (recognizer, enrolled))
    assert np.abs(shifted - plain).max() > 0.1
    assert np.ptp(shifted - plain, axis=0).max() < 1e-4
    assert (enrolled.temperature, enrolled.rejection.threshold) == (2.0, 0.9)
    assert recognizer.temperature == 1.0
    assert recognizer.predict(tone(), RATE) == Recognizer(recognizer.package).predict(tone(), RATE)


def test_recordings_that_cannot_be_used(recognizer: Recognizer) -> None:
    with pytest.raises(AudioError, match="recording 1: "):
        recognizer.enroll([encoded(tone()), b"text"])
    with pytest.raises(UserError, match="at least one recording"):
        recognizer.enroll([])


@pytest.mark.parametrize("change", [{"spec_digest": "0" * 64}, {"mean": (0.0,)}])
def test_profile_of_another_model(recognizer: Recognizer, change: dict[str, object]) -> None:
    profile = recognizer.enroll([encoded(tone())]).model_copy(update=change)
    with pytest.raises(UserError, match="another model"):
        recognizer.with_profile(profile)


def written(frames: int, *mean: str) -> str:
    return f'{{"format": 1, "spec_digest": "{"0" * 64}", "frames": {frames}, "mean": [{", ".join(mean)}]}}'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"format": 1}',
        written(0, "0.0"),
        written(9, "NaN"),
        written(9, "1e300"),
        written(9, *["0.0"] * 90_000),
        "[" * 60_000,
    ],
    ids=["empty", "list", "incomplete", "no frames", "not a number", "huge", "long", "deep"],
)
def test_damaged_profiles(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(UserError, match=r"p\.json: is not a speaker profile"):
        Profile.load(tmp_path / "p.json")
    with pytest.raises(UserError, match="cannot be read"):
        Profile.load(tmp_path / "none.json")
