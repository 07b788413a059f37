"""Perturb the features of training utterances, as if another speaker had spoken at another microphone.

The frames are changed, not the waveform, so that every epoch draws new perturbations at almost no cost. Formants, F0,
level and tilt are affine maps of a frame and therefore apply to the mean of a speaker's references too.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from speech_emotion.config.features import FeaturizeSettings, PerturbSettings
from speech_emotion.features import mfcc

_WARP_STEPS: Final = 40
"""The factors of the formants are rounded to so many steps, whose matrices are computed once."""

_PER_TILT: Final = {"alpha_ratio": 2.5, "slope_low": 5.0, "slope_mid": 1.5}
"""Approximate change of prosodic tracks per dB per octave of tilt."""


@dataclass(frozen=True)
class Perturbation:
    """The changes of one utterance.

    Attributes
    ----------
    matrix : np.ndarray [shape=(coefficients, coefficients)]
        Scales the formants.
    offset : np.ndarray [shape=(coefficients,)]
        Added to every frame: F0, level and tilt.
    tempo : float
        Above 1: faster.
    """

    matrix: np.ndarray
    offset: np.ndarray
    tempo: float

    def shifted(self, frames: np.ndarray) -> np.ndarray:
        """Return frames or a mean of frames [shape=(…, coefficients)] with other formants, F0, level and tilt."""
        return frames @ self.matrix.T + self.offset

    def applied(self, frames: np.ndarray) -> np.ndarray:
        """Return the frames of the perturbed utterance [shape=(t / tempo, coefficients)]."""
        places = np.linspace(0, len(frames) - 1, max(2, round(len(frames) / self.tempo)))
        before = places.astype(int)
        after = np.minimum(before + 1, len(frames) - 1)
        share = (places - before)[:, None].astype(np.float32)
        return self.shifted(frames[before] * (1 - share) + frames[after] * share)


def draw(
    settings: PerturbSettings, features: FeaturizeSettings, count: int, rng: np.random.Generator
) -> list[Perturbation | None]:
    """Draw the perturbations of `count` utterances; None: unchanged.

    Parameters
    ----------
    settings : PerturbSettings
    features : FeaturizeSettings
        Of the frames. If they are normalized per utterance, only formants and tempo are changed.
    count : int
    rng : np.random.Generator
    """
    tilt = _tilt(features)
    level = _column(features, "mfcc_0", np.sqrt(features.n_mels)) + _column(features, "energy", 1.0)
    pitch = _column(features, "f0", 1.0)
    absolute = features.utterance_normalization == "none"
    drawn: list[Perturbation | None] = []
    for chosen, warp, *rest in rng.random((count, 6)):
        f0, gain, slope, tempo = (2 * share - 1 for share in rest)
        if chosen >= settings.share:
            drawn.append(None)
            continue
        offset = settings.f0_semitones * f0 * pitch + settings.gain_db * gain * level + settings.tilt_db * slope * tilt
        step = round(warp * _WARP_STEPS) / _WARP_STEPS
        matrix = warp_matrix(features, float((1 + settings.warp) ** (2 * step - 1)))
        drawn.append(
            Perturbation(matrix, offset.astype(np.float32) * np.float32(absolute), float((1 + settings.tempo) ** tempo))
        )
    return drawn


@lru_cache(maxsize=64)
def warp_matrix(features: FeaturizeSettings, factor: float) -> np.ndarray:
    """Return the matrix that scales the formants of a frame by a factor [shape=(coefficients, coefficients)], float32.

    The cepstra are turned into a smooth mel spectrum, whose bands are read at other frequencies.
    """
    names, bands = mfcc.names(features), features.n_mels
    cosines = mfcc.dct_matrix(features.n_mfcc, bands)
    centres = mfcc.mel_centres(features)
    places = np.interp(mfcc.warped(centres, factor, features.sample_rate / 2), centres, np.arange(bands))
    bands_read = np.stack([np.interp(places, np.arange(bands), one) for one in np.eye(bands)], axis=1)
    warped = cosines @ bands_read @ cosines.T
    matrix = np.eye(len(names), dtype=np.float32)
    for order in ("", "_delta", "_delta_delta"):
        held = [number for number in range(features.n_mfcc) if f"mfcc_{number}{order}" in names]
        columns = [names.index(f"mfcc_{number}{order}") for number in held]
        matrix[np.ix_(columns, columns)] = warped[np.ix_(held, held)]
    return matrix


def _tilt(features: FeaturizeSettings) -> np.ndarray:
    """Return what one dB per octave adds to a frame [shape=(coefficients,)]."""
    octaves = np.log2(np.clip(mfcc.mel_centres(features), 100.0, 8000.0) / 1000.0)
    cepstra = mfcc.dct_matrix(features.n_mfcc, features.n_mels) @ octaves
    by_name = {f"mfcc_{number}": value for number, value in enumerate(cepstra)} | _PER_TILT
    return np.array([by_name.get(name, 0.0) for name in mfcc.names(features)])


def _column(features: FeaturizeSettings, name: str, value: float) -> np.ndarray:
    return np.array([value * (one == name) for one in mfcc.names(features)])
