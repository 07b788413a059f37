"""Prosodic tracks of sounds with known pitch, level and timbre."""

import numpy as np
import pytest

from helpers.examples import featurize_settings
from speech_emotion.features.mfcc import Extractor, names
from speech_emotion.features.prosody import TRACKS, yin

RATE = 16000
GLIDE = 150 * 2 ** np.linspace(0, 1, RATE)
"""Hz a sample: an octave in a second."""


def voice(f0: np.ndarray | float, seconds: float = 1.0) -> np.ndarray:
    """Return a buzz of ten harmonics at a pitch in Hz, constant or a value a sample."""
    count = int(seconds * RATE)
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0, count)) / RATE
    return (0.05 * sum(np.sin(n * phase) / n for n in range(1, 11))).astype(np.float32)


def track(waveform: np.ndarray, name: str, normalization: str = "cmn") -> np.ndarray:
    settings = featurize_settings(prosody=True, utterance_normalization=normalization)
    return Extractor(settings)(waveform)[:, names(settings).index(name)]


# at 4 kHz, a period of 600 Hz has seven samples
@pytest.mark.parametrize(
    ("f0", "error", "voiced"),
    [*((f0, 5e-3, 0.95) for f0 in (80.0, 120.0, 210.0, 400.0)), (600.0, 1e-2, 0.9), (GLIDE, 2e-2, 0.9)],
)
def test_f0_is_accurate(f0: np.ndarray | float, error: float, voiced: float) -> None:
    found, voicing = yin(voice(f0), frames=51, sample_rate=RATE, hop_length=320)

    inner = slice(3, -3)
    true = np.broadcast_to(f0, RATE)[np.arange(50) * 320]
    np.testing.assert_allclose(found[:50][inner], true[inner], rtol=error)
    assert (voicing[inner] > voiced).all()


def test_noise_is_not_voiced() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)

    assert track(noise, "voicing").mean() < 0.4


def test_pitch_is_relative_to_the_utterance() -> None:
    melody = 2 ** (0.3 * np.sin(np.linspace(0, 6, RATE)))

    low, high = (track(voice(f0 * melody), "f0") for f0 in (110.0, 220.0))

    np.testing.assert_allclose(low[3:-3], high[3:-3], atol=0.2)
    assert np.ptp(low[3:-3]) > 5  # semitones: the melody is there


def test_pitch_and_energy_are_absolute_without_normalization() -> None:
    low, high = (voice(f0) for f0 in (110.0, 220.0))

    np.testing.assert_allclose(track(low, "f0", "none")[3:-3], 12, atol=0.1)
    np.testing.assert_allclose(track(high, "f0", "none")[3:-3], 24, atol=0.1)
    louder = track(10 * low, "energy", "none") - track(low, "energy", "none")
    np.testing.assert_allclose(louder, 20, atol=0.1)
    assert np.isfinite(track(np.zeros(RATE, np.float32), "f0", "none")).all()


@pytest.mark.parametrize("gain_db", [-12.0, 12.0])
def test_frames_do_not_depend_on_level(gain_db: float) -> None:
    settings = featurize_settings(prosody=True, c0=False, trim_db=40.0, utterance_normalization="cmn")
    rng = np.random.default_rng(0)
    sound = voice(200 * 2 ** np.linspace(0, 0.5, RATE)) + 1e-2 * rng.standard_normal(RATE).astype(np.float32)

    frames, louder = (Extractor(settings)(np.float32(10 ** (gain / 20)) * sound) for gain in (0.0, gain_db))

    np.testing.assert_allclose(frames, louder, atol=0.05)


def test_darker_sound_has_lower_centroid() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    dark = np.convolve(noise, np.ones(16) / 16, mode="same").astype(np.float32)

    for name in ("alpha_ratio", "centroid", "flatness"):
        assert track(dark, name).mean() < track(noise.astype(np.float32), name).mean()


def test_silence_is_trimmed() -> None:
    settings = featurize_settings(prosody=True, trim_db=40.0, utterance_normalization="cmvn", c0=False)
    spoken = voice(200.0)
    quiet = np.zeros(int(0.3 * RATE), np.float32)

    alone = Extractor(settings)(spoken)
    padded = Extractor(settings)(np.concatenate([quiet, spoken, quiet]))

    assert abs(len(alone) - len(padded)) <= 2


def test_silence_and_short_sounds_give_finite_frames() -> None:
    settings = featurize_settings(prosody=True, trim_db=40.0, utterance_normalization="cmvn")

    for waveform in (np.zeros(RATE, np.float32), voice(200.0)[:5], np.zeros(1, np.float32)):
        frames = Extractor(settings)(waveform)
        assert np.isfinite(frames).all()
        assert frames.shape[1] == 13 + len(TRACKS)
