import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import parselmouth
import pytest
from pydantic import ValidationError

from speech_emotion.audio import Sound
from speech_emotion.filters import tilted
from speech_emotion.impersonation import Impersonated, Manner, impersonate, in_room, manner, with_pink_noise
from speech_emotion.settings.base import read_section
from speech_emotion.settings.pseudo_speakers import ActingSettings, PseudoSpeakersSettings, VoiceSettings

RATE = 16000

SAME: Mapping[str, Any] = {
    "name": "same",
    "formants": 1.0,
    "pitch": 1.0,
    "pitch_range": 1.0,
    "tempo": 1.0,
    "level_db": 0.0,
    "tilt_db": 0.0,
    "rt60": None,
    "snr_db": None,
}

EVERYTHING = {"formants": 0.8, "pitch": 1.3, "pitch_range": 1.5, "tempo": 0.9, "rt60": 0.3, "snr_db": 20.0}

ACTING = ActingSettings(pitch=0.15, pitch_range=0.35, tempo=0.12, tilt_db=1.5)


def voice(**changes: Any) -> VoiceSettings:
    return VoiceSettings(**{**SAME, **changes})


def vowel(seconds: float = 1.0, hertz: float = 200.0, formants: tuple[float, ...] = (700.0, 1200.0)) -> np.ndarray:
    """Return pulses of a gliding pitch through resonances, between two rests."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = hertz * (1 + 0.1 * np.sin(2 * np.pi * 2 * time))
    phase = np.cumsum(pitch) / RATE
    wave = np.diff(np.floor(phase), prepend=0.0)
    for formant in formants:
        radius = np.exp(-np.pi * 80 / RATE)
        angle = 2 * np.pi * formant / RATE
        out = np.zeros(len(wave) + 2)
        for n in range(len(wave)):
            out[n + 2] = wave[n] + 2 * radius * np.cos(angle) * out[n + 1] - radius**2 * out[n]
        wave = out[2:]
    rest = np.zeros(RATE // 10)
    return np.concatenate([rest, 0.3 * wave / np.abs(wave).max(), rest]).astype(np.float32)


def said(wave: np.ndarray, changed: VoiceSettings, *, name: str = "one", seed: int = 1) -> np.ndarray:
    return impersonate(wave, RATE, changed, seed=seed, name=name)


def pitch(wave: np.ndarray) -> float:
    found = parselmouth.Sound(wave.astype(float), sampling_frequency=RATE).to_pitch()
    frequencies = found.selected_array["frequency"]
    return float(np.median(frequencies[frequencies > 0]))


def first_formant(wave: np.ndarray) -> float:
    sound = parselmouth.Sound(wave.astype(float), sampling_frequency=RATE)
    formants = sound.to_formant_burg(maximum_formant=5000.0)
    middle = sound.duration / 2
    return float(np.median([formants.get_value_at_time(1, middle + step) for step in np.linspace(-0.2, 0.2, 21)]))


def test_pitch_formants_and_tempo_move_each_by_itself() -> None:
    wave = vowel()
    deep = said(wave, voice(pitch=0.6))
    assert pitch(deep) / pitch(wave) == pytest.approx(0.6, rel=0.03)
    assert first_formant(deep) / first_formant(wave) == pytest.approx(1.0, rel=0.08)
    large = said(wave, voice(formants=0.75))
    assert pitch(large) / pitch(wave) == pytest.approx(1.0, rel=0.03)
    assert first_formant(large) / first_formant(wave) == pytest.approx(0.75, rel=0.08)
    slow = said(wave, voice(tempo=0.8))
    assert len(slow) / len(wave) == pytest.approx(1.25, rel=0.02)
    assert pitch(slow) / pitch(wave) == pytest.approx(1.0, rel=0.03)


def test_equal_names_and_seeds_give_equal_bytes_in_every_process() -> None:
    wave, everything = vowel(), voice(**EVERYTHING)
    first = said(wave, everything)
    assert said(wave, voice(pitch=0.7)).tobytes() != first.tobytes()
    assert said(wave, everything).tobytes() == first.tobytes()
    code = (
        "from test_impersonation import EVERYTHING, said, sha256, voice, vowel\n"
        "print(sha256(said(vowel(), voice(**EVERYTHING)).tobytes()).hexdigest())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == sha256(first.tobytes()).hexdigest()


@pytest.mark.parametrize("other", [{"name": "two"}, {"seed": 2}])
def test_another_name_or_seed_has_another_room_and_noise(other: dict[str, Any]) -> None:
    wave, everything = vowel(), voice(**EVERYTHING)
    assert not np.array_equal(said(wave, everything), said(wave, everything, **other))


def test_gain_is_in_decibels_and_stops_at_full_scale() -> None:
    wave = vowel()
    quiet, loud = said(wave, voice(level_db=-12.0)), said(wave, voice(level_db=20.0))
    assert np.abs(quiet).max() / np.abs(said(wave, voice())).max() == pytest.approx(10 ** (-12 / 20), rel=1e-3)
    assert 0.99 < np.abs(loud).max() < 1


def test_noise_lies_as_far_below_the_voice_as_asked_and_falls_by_3_db_an_octave() -> None:
    wave = vowel().astype(np.float64)
    noise = with_pink_noise(wave, snr_db=20.0, rng=np.random.default_rng(1)) - wave
    assert 10 * np.log10((wave**2).mean() / (noise**2).mean()) == pytest.approx(20.0, abs=1e-6)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[low : 2 * low].mean() for low in (64, 128, 256, 512, 1024, 2048)]
    assert np.diff(10 * np.log10(octaves)).mean() == pytest.approx(-3.0, abs=0.6)


def test_an_echo_falls_by_60_db_in_its_time_and_keeps_level_and_length() -> None:
    click = np.zeros(RATE)
    click[0] = 1.0
    heard = in_room(click, RATE, rt60=0.4, direct_db=6.0, rng=np.random.default_rng(1))
    assert len(heard) == len(click)
    assert (heard**2).sum() == pytest.approx((click**2).sum())
    echo = heard[1:]
    assert 10 * np.log10(heard[0] ** 2 / (echo**2).sum()) == pytest.approx(6.0, abs=0.1)
    early, late = (echo[at : at + 800] for at in (800, 4000))
    assert 10 * np.log10((early**2).sum() / (late**2).sum()) == pytest.approx(60 / 0.4 * 3200 / RATE, abs=2.0)


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(RATE),
        np.zeros(1),
        np.full(RATE, 0.5),
        np.random.default_rng(1).standard_normal(RATE) * 0.1,
        np.random.default_rng(1).standard_normal(30) * 0.1,
        np.sign(vowel()),
        np.eye(1, RATE, 500)[0],
    ],
    ids=["silence", "one sample", "constant", "whisper", "2 ms", "clipped", "click"],
)
def test_what_has_no_voice_is_still_answered(wave: np.ndarray) -> None:
    for changes in ({}, EVERYTHING, {"pitch_range": 3.0, "pitch": 2.5}, {"pitch_range": 0.0}):
        changed = said(wave.astype(np.float32), voice(**changes))
        assert changed.dtype == np.float32
        assert len(changed) > 0
        assert np.isfinite(changed).all()
        assert np.abs(changed).max() < 1


def test_a_wide_pitch_range_never_turns_a_voice_off() -> None:
    wave = np.concatenate([vowel(0.5, 120.0), vowel(0.5, 240.0), vowel(0.5, 460.0)])
    changed = said(wave, voice(pitch_range=3.0))
    level = np.sqrt((changed**2).mean() / (wave**2).mean())
    assert 0.5 < level < 2
    assert pitch(changed) / pitch(wave) == pytest.approx(1.0, rel=0.1)


def test_voices_of_params_are_outside_of_what_training_hears() -> None:
    voices = read_section("pseudo_speakers", PseudoSpeakersSettings).voices
    assert len(voices) == 6
    for one in voices:
        assert not 0.82 < one.formants < 1.2
        assert abs(one.tilt_db) > 3
        # a change of speed, which is what training has, moves pitch and tempo by one factor
        assert abs(np.log(one.pitch / one.tempo)) > 0.1


def test_a_voice_acts_each_emotion_in_a_manner_of_its_own_and_always_the_same() -> None:
    happy = manner(ACTING, "man", "happy", seed=1)
    assert happy == manner(ACTING, "man", "happy", seed=1)
    others = {("man", "sad", 1), ("child", "happy", 1), ("man", "happy", 2)}
    assert all(manner(ACTING, voice, emotion, seed=seed) != happy for voice, emotion, seed in others)
    drawn = [manner(ACTING, "man", f"{number}", seed=1) for number in range(2000)]
    assert np.std([np.log(one.pitch) for one in drawn]) == pytest.approx(0.15, rel=0.1)
    assert np.std([np.log(one.tempo) for one in drawn]) == pytest.approx(0.12, rel=0.1)
    assert np.std([one.tilt_db for one in drawn]) == pytest.approx(1.5, rel=0.1)
    still = ActingSettings(pitch=0.0, pitch_range=0.0, tempo=0.0, tilt_db=0.0)
    assert manner(still, "man", "happy", seed=1) == Manner()


def test_an_utterance_is_said_in_the_manner_of_its_emotion() -> None:
    sound = Sound(vowel()[:, None], RATE)
    emotions = {"one": "happy", "two": "happy", "three": "sad"}
    acted = Impersonated(voice(), 1, ActingSettings(pitch=0.3, pitch_range=0.0, tempo=0.3, tilt_db=0.0), emotions)
    one, two, three = (acted.waveform(sound, name, RATE) for name in emotions)
    assert np.array_equal(one, two)
    wanted = manner(acted.acting, "same", "sad", seed=1)
    assert pitch(three) / pitch(vowel()) == pytest.approx(wanted.pitch, rel=0.04)
    assert len(three) / len(vowel()) == pytest.approx(1 / wanted.tempo, rel=0.03)


def test_a_tilt_is_in_decibels_an_octave_and_keeps_the_level() -> None:
    noise = np.random.default_rng(1).standard_normal(4 * RATE)
    changed = tilted(noise, RATE, 3.0)
    assert (changed**2).mean() == pytest.approx((noise**2).mean())
    gain = np.abs(np.fft.rfft(changed)) / np.abs(np.fft.rfft(noise))
    assert 20 * np.log10(gain[4 * 2000] / gain[4 * 1000]) == pytest.approx(3.0, abs=0.01)


def test_a_deep_voice_keeps_what_lies_high() -> None:
    rate = 2 * RATE
    sound = Sound(np.random.default_rng(1).standard_normal((rate, 1)).astype(np.float32) * 0.1, rate)
    deep = Impersonated(voice(formants=0.75), 1).waveform(sound, "one", RATE)
    power = np.abs(np.fft.rfft(deep)) ** 2
    half = len(power) // 2
    assert power[int(1.6 * half) : int(1.9 * half)].mean() > 0.3 * power[half // 2 : half].mean()


@pytest.mark.parametrize("names", [("a", "a"), ("recorded",)])
def test_voices_have_names_of_their_own(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="name"):
        PseudoSpeakersSettings(seed=1, acting=ACTING, voices=tuple(voice(name=name) for name in names))
