"""Augmented copies: what changes, what does not, and that they are reproducible."""

import numpy as np
import pytest

from helpers.examples import augment_settings, featurize_settings
from speech_emotion.audio.decode import Sound
from speech_emotion.features.augmentation import Copy, Recipe, recipe, render, with_noise
from speech_emotion.features.mfcc import Extractor
from speech_emotion.features.prosody import yin

RATE = 16000


def tone(f0: float = 200.0, seconds: float = 1.0) -> Sound:
    phase = 2 * np.pi * f0 * np.arange(int(seconds * RATE)) / RATE
    buzz = 0.05 * sum(np.sin(n * phase) / n for n in range(1, 20))
    return Sound(buzz.astype(np.float32)[:, None], RATE)


PLAIN = Recipe(speed=1.0, warp=1.0, tilt_db=0.0, snr_db=None, pink=False, narrow=False)


def test_speed_shortens_and_raises() -> None:
    fast = render(tone(), RATE, Recipe(1.25, 1.0, 0.0, None, False, False), seed=1, name="x")

    assert len(fast) == pytest.approx(RATE / 1.25, rel=0.01)
    found, _ = yin(fast, frames=len(fast) // 320, sample_rate=RATE, hop_length=320)
    assert np.median(found) == pytest.approx(250.0, rel=0.01)


def test_warp_moves_the_peak() -> None:
    settings = featurize_settings(n_mels=128, n_fft=1024, win_length=1024)
    time = np.arange(RATE) / RATE
    peak = np.sin(2 * np.pi * 1500 * time).astype(np.float32)
    moved = np.sin(2 * np.pi * 1500 * 1.15 * time).astype(np.float32)

    warped = Extractor(settings, warp=1.15).log_mel(peak)[10].argmax()

    assert abs(int(warped) - int(Extractor(settings).log_mel(moved)[10].argmax())) <= 1


def test_signal_to_noise_ratio() -> None:
    clean = tone().samples[:, 0]
    for pink in (False, True):
        noise = with_noise(clean, 20.0, pink=pink, rng=np.random.default_rng(0)) - clean
        assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(20.0, abs=0.1)


def test_narrow_copy_has_telephone_band() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)[:, None]
    narrow = render(Sound(0.1 * noise, RATE), RATE, Recipe(1.0, 1.0, 0.0, None, False, True), seed=1, name="x")
    power = np.abs(np.fft.rfft(narrow)) ** 2

    assert power[5000:].mean() < 1e-2 * power[1000:3000].mean()


def test_copy_depends_on_seed_utterance_and_number() -> None:
    settings, features = augment_settings(noisy=1.0), featurize_settings()
    first, again = (Copy(settings, 0).frames(tone(), "a", features) for _ in range(2))

    np.testing.assert_array_equal(first, again)
    others = [
        Copy(settings, 1).frames(tone(), "a", features),
        Copy(settings, 0).frames(tone(), "b", features),
        Copy(augment_settings(noisy=1.0, seed=99), 0).frames(tone(), "a", features),
    ]
    assert all(other.shape != first.shape or not np.allclose(other, first) for other in others)


def test_draws_fill_their_ranges() -> None:
    settings = augment_settings(noisy=0.5, narrow=0.2)
    drawn = [recipe(settings, f"utterance-{number}", 0) for number in range(2000)]
    speeds = np.array([one.speed for one in drawn])

    assert 0.8 <= speeds.min() < 0.81
    assert 1.24 < speeds.max() <= 1.25
    assert np.mean([one.snr_db is not None for one in drawn]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([one.narrow for one in drawn]) == pytest.approx(0.2, abs=0.04)


def test_plain_recipe_changes_nothing() -> None:
    np.testing.assert_allclose(render(tone(), RATE, PLAIN, seed=1, name="x"), tone().samples[:, 0], atol=1e-6)
