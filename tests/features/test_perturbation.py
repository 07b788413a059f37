"""Perturbed frames are close to the frames of a perturbed recording."""

import numpy as np
import pytest

from helpers.examples import featurize_settings
from speech_emotion.config.features import PerturbSettings
from speech_emotion.features.mfcc import Extractor, names
from speech_emotion.features.perturbation import Perturbation, draw, warp_matrix

SETTINGS = featurize_settings(n_mfcc=24, c0=True, prosody=True, deltas=1, utterance_normalization="none", trim_db=None)
NOTHING = PerturbSettings(share=1.0, warp=0.0, f0_semitones=0.0, gain_db=0.0, tilt_db=0.0, tempo=0.0)


def vowel(pitch: float = 120.0) -> np.ndarray:
    """Return one second of harmonics with formants at 700, 1200 and 2600 Hz."""
    time = np.arange(16000) / 16000
    harmonics = pitch * np.arange(1, int(7500 / pitch))
    levels = sum(1 / (1 + ((harmonics - formant) / 120) ** 2) for formant in (700, 1200, 2600)) + 0.01
    return (0.05 * (levels @ np.sin(2 * np.pi * np.outer(harmonics, time)))).astype(np.float32)


def drawn(seed: int = 0, **changes: float) -> Perturbation:
    found = draw(NOTHING.model_copy(update=changes), SETTINGS, 1, np.random.default_rng(seed))[0]
    assert found
    return found


def test_gain_is_that_of_a_louder_recording() -> None:
    perturbed = drawn(gain_db=6.0)
    gain = perturbed.offset[names(SETTINGS).index("energy")]

    found = perturbed.applied(Extractor(SETTINGS)(vowel()))

    np.testing.assert_allclose(found, Extractor(SETTINGS)(vowel() * 10 ** (gain / 20)), atol=0.01)
    assert 0.5 < abs(gain) <= 6


@pytest.mark.parametrize("factor", [0.87, 0.95, 1.1, 1.15])
def test_warp_moves_the_formants(factor: float) -> None:
    cepstra, frames = slice(0, 24), Extractor(SETTINGS)(vowel())
    wanted = Extractor(SETTINGS, warp=factor)(vowel())[:, cepstra]

    found = (frames @ warp_matrix(SETTINGS, factor).T)[:, cepstra]

    assert np.abs(found - wanted).mean() < 0.6 * np.abs(frames[:, cepstra] - wanted).mean()
    np.testing.assert_allclose(warp_matrix(SETTINGS, 1.0), np.eye(len(names(SETTINGS))), atol=1e-5)


def test_tempo_changes_the_length_only() -> None:
    frames = np.repeat(np.arange(100, dtype=np.float32)[:, None], len(names(SETTINGS)), axis=1)

    lengths = {len(drawn(seed, tempo=0.25).applied(frames)) for seed in range(20)}

    assert min(lengths) < 90 < 110 < max(lengths)
    assert all(80 <= length <= 125 for length in lengths)
    found = drawn(tempo=0.25).applied(frames)
    np.testing.assert_allclose(found[[0, -1]], frames[[0, -1]], atol=1e-4)


def test_share_and_seed_decide_what_is_drawn() -> None:
    settings = NOTHING.model_copy(update={"share": 0.5, "gain_db": 6.0})
    first, again = (draw(settings, SETTINGS, 1000, np.random.default_rng(3)) for _ in range(2))

    assert 400 < sum(one is None for one in first) < 600
    assert [one and one.offset[0] for one in first] == [one and one.offset[0] for one in again]


def test_normalized_features_have_no_offset() -> None:
    settings = SETTINGS.model_copy(update={"utterance_normalization": "cmn"})
    changes = {"gain_db": 6.0, "f0_semitones": 2.0, "tilt_db": 1.0}

    found = draw(NOTHING.model_copy(update=changes), settings, 1, np.random.default_rng(0))[0]

    assert found
    assert not found.offset.any()
