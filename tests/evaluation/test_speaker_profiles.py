"""How speakers say emotions: measured on voices whose level, pitch and length are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from speech_emotion.evaluation.speaker_profiles import MEASURES, profiles

RATE = 16_000
MANNERS = {"neutral": (0.0, 0.0, 1.0), "happy": (6.0, 5.0, 0.8), "sad": (-4.0, -2.0, 1.4)}
"""dB and semitones against the usual voice, and seconds."""
VOICES = {"high": 230.0, "low": 110.0}


def utterance(f0: float, manner: tuple[float, float, float], number: int) -> np.ndarray:
    """Return a buzz of ten harmonics, a little different by its number."""
    gain, semitones, seconds = manner
    count = int((seconds + 0.02 * number) * RATE)
    pitch = f0 * 2 ** ((semitones + 0.1 * number) / 12)
    phase = 2 * np.pi * pitch * np.arange(count) / RATE
    buzz = sum(np.sin(n * phase) / n for n in range(1, 11))
    return (0.03 * 10 ** ((gain + 0.1 * number) / 20) * buzz).astype(np.float32)


def corpus(raw: Path, manners: dict[str, dict[str, tuple[float, float, float]]]) -> pd.DataFrame:
    rows = []
    for speaker, emotions in manners.items():
        for emotion, manner in emotions.items():
            for number in range(4):
                path = f"{speaker}-{emotion}-{number}.wav"
                soundfile.write(raw / path, utterance(VOICES[speaker], manner, number), RATE)
                rows.append({"id": path, "path": path, "speaker": speaker, "emotion": emotion})
    return pd.DataFrame(rows)


def test_differences_are_those_from_the_speakers_own_neutral(tmp_path: Path) -> None:
    found = profiles(corpus(tmp_path, {"high": MANNERS, "low": MANNERS}), tmp_path, workers=1)

    rows = found.set_index(["speaker", "emotion"])
    for speaker in VOICES:
        happy, neutral = rows.loc[(speaker, "happy")], rows.loc[(speaker, "neutral")]
        assert happy["level"] == pytest.approx(6, abs=0.3)
        assert happy["pitch"] == pytest.approx(5, abs=0.3)
        assert happy["seconds"] == pytest.approx(-0.2, abs=0.06)
        assert not neutral[list(MEASURES)].any()
    assert set(found["utterances"]) == {4}


def test_an_emotion_is_most_like_the_one_that_is_said_alike(tmp_path: Path) -> None:
    turned = {"neutral": MANNERS["neutral"], "happy": MANNERS["sad"], "sad": MANNERS["happy"]}

    found = profiles(corpus(tmp_path, {"high": MANNERS, "low": turned}), tmp_path, workers=1)

    rows = found.set_index(["speaker", "emotion"])
    assert tuple(rows.loc[("high", "happy"), ["alike_speaker", "alike"]]) == ("low", "sad")
    assert tuple(rows.loc[("low", "happy"), ["alike_speaker", "alike"]]) == ("high", "sad")
    assert tuple(rows.loc[("low", "neutral"), ["alike_speaker", "alike"]]) == ("high", "neutral")


def test_without_neutral_the_mean_is_the_usual_way_and_a_lone_speaker_is_like_nobody(tmp_path: Path) -> None:
    two = {name: MANNERS[name] for name in ("happy", "sad")}

    found = profiles(corpus(tmp_path, {"high": two}), tmp_path, workers=1)

    assert found["level"].tolist() == pytest.approx([5, -5], abs=0.3)
    assert found["level"].sum() == pytest.approx(0, abs=1e-9)
    assert set(found["alike"]) == set(found["alike_speaker"]) == {""}


def test_a_whisper_has_no_pitch_and_is_measured_all_the_same(tmp_path: Path) -> None:
    rows = corpus(tmp_path, {"high": MANNERS})
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    for path in rows.loc[rows["emotion"] == "sad", "path"]:
        soundfile.write(tmp_path / path, np.sign(noise) * noise**2, RATE)

    found = profiles(rows, tmp_path, workers=1).set_index("emotion")

    assert found.loc["sad", "voiced"] < -0.3
    assert np.isfinite(found.filter(like="z_").to_numpy(dtype=float)).all()
