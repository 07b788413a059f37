"""MFCCs, deltas and normalization agree with librosa."""

import librosa
import numpy as np
import pytest

from helpers.examples import featurize_settings
from speech_emotion.features.mfcc import Extractor, delta, names, spec_digest

AGREEMENT = 2e-3  # float32's edge: coefficients reach 700


def sound(seconds: float = 1.0, sample_rate: int = 16000) -> np.ndarray:
    """Return a gliding, trembling tone in noise, loud and quiet in turns."""
    rng = np.random.default_rng(0)
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    tone = np.sin(2 * np.pi * (200 * time + 300 * time**2)) * (0.3 + 0.29 * np.sin(7 * time))
    return (tone + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def librosa_mfcc(waveform: np.ndarray, settings) -> np.ndarray:
    return librosa.feature.mfcc(
        y=waveform,
        sr=settings.sample_rate,
        n_mfcc=settings.n_mfcc,
        n_fft=settings.n_fft,
        win_length=settings.win_length,
        hop_length=settings.hop_length,
        n_mels=settings.n_mels,
        fmin=settings.f_min,
        fmax=settings.f_max,
    ).T


@pytest.mark.parametrize("samples", [1, 100, 399, 16000])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_mfcc": 40, "hop_length": 160},
        {"sample_rate": 22050, "n_fft": 2048, "win_length": 2048, "hop_length": 512, "n_mels": 128, "n_mfcc": 40},
        {"f_min": 50.0, "f_max": 7000.0, "n_fft": 1024, "win_length": 401},
    ],
)
def test_mfcc_agrees_with_librosa(changes: dict, samples: int) -> None:
    settings = featurize_settings(**changes)
    waveform = sound(sample_rate=settings.sample_rate)[:samples]

    frames = Extractor(settings)(waveform)

    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames, librosa_mfcc(waveform, settings), atol=AGREEMENT)


@pytest.mark.parametrize("order", [1, 2])
def test_deltas_agree_with_librosa(order: int) -> None:
    frames = np.random.default_rng(0).standard_normal((40, 13)).astype(np.float32)

    np.testing.assert_allclose(delta(frames, order), librosa.feature.delta(frames.T, order=order).T, atol=1e-4)


@pytest.mark.parametrize("order", [1, 2])
def test_deltas_of_few_frames_keep_their_shape(order: int) -> None:
    for count in range(1, 12):
        frames = np.zeros((count, 2), np.float32)
        assert delta(frames, order).shape == frames.shape


def test_cmvn_standardizes() -> None:
    frames = Extractor(featurize_settings(utterance_normalization="cmvn", c0=False, deltas=2))(sound())

    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(frames.std(axis=0), 1, atol=2e-2)


@pytest.mark.parametrize(("changes", "count"), [({}, 13), ({"c0": False}, 12), ({"c0": False, "deltas": 2}, 36)])
def test_coefficient_count(changes: dict, count: int) -> None:
    settings = featurize_settings(**changes)

    assert len(names(settings)) == count == Extractor(settings)(sound(0.3)).shape[1]


def test_every_setting_changes_the_digest() -> None:
    base = featurize_settings()
    changes = {
        **{"sample_rate": 8000, "n_fft": 1024, "win_length": 350, "hop_length": 100, "n_mels": 40, "f_min": 20.0},
        **{"f_max": 7000.0, "n_mfcc": 20, "c0": False, "deltas": 1, "utterance_normalization": "cmn"},
        **{"prosody": True, "trim_db": 40.0},
    }

    digests = {spec_digest(base), *(spec_digest(featurize_settings(**{key: changes[key]})) for key in changes)}

    assert set(changes) == set(type(base).model_fields)
    assert len(digests) == 1 + len(changes)
