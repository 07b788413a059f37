"""Augment recordings with speed, warp, tilt, noise and a telephone band, for training only."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from speech_emotion.audio.decode import Sound
from speech_emotion.config.features import AugmentSettings, FeaturizeSettings
from speech_emotion.core.io import digest_json
from speech_emotion.features.mfcc import Extractor

_TELEPHONE_HZ: Final = (300.0, 3400.0)


@dataclass(frozen=True)
class Recipe:
    """The parameters of one augmented copy.

    Attributes
    ----------
    speed : float
        Factor of pitch, formants and tempo together.
    warp : float
        Additional factor of the formants; see `mfcc.Extractor`.
    tilt_db : float
        Slope added to the spectrum, in dB per octave.
    snr_db : float or None
        Signal-to-noise ratio of added noise; None: no noise.
    pink : bool
        Whether the noise is pink (falls by 3 dB per octave) instead of white.
    narrow : bool
        Whether the band is limited to that of a telephone, 300 to 3400 Hz.
    """

    speed: float
    warp: float
    tilt_db: float
    snr_db: float | None
    pink: bool
    narrow: bool


@dataclass(frozen=True)
class Copy:
    """Augmented copy `number` of every utterance."""

    settings: AugmentSettings
    number: int

    @property
    def name(self) -> str:
        """Name in the feature store."""
        return f"copy-{self.number}"

    def frames(self, sound: Sound, utterance: str, settings: FeaturizeSettings) -> np.ndarray:
        """Return the features of the copy [shape=(t, coefficients)], float32."""
        how = recipe(self.settings, utterance, self.number)
        waveform = render(sound, settings.sample_rate, how, seed=self.settings.seed, name=f"{utterance} {self.number}")
        return Extractor(settings, warp=how.warp)(waveform)


def recipe(settings: AugmentSettings, name: str, number: int) -> Recipe:
    """Draw the parameters of copy `number` of an utterance; they depend on these and `settings.seed`."""
    rng = _generator(settings, name, number)
    speed, warp = (float(np.exp(rng.uniform(*np.log(ends)))) for ends in (settings.speed, settings.warp))
    noisy, pink, narrow, share = rng.random(4)
    tilt_db = float(rng.uniform(*settings.tilt_db))
    snr_db = settings.snr_db[0] + share * (settings.snr_db[1] - settings.snr_db[0])
    noise = float(snr_db) if noisy < settings.noisy else None
    return Recipe(speed, warp, tilt_db, noise, pink < 0.5, narrow < settings.narrow)


def render(sound: Sound, sample_rate: int, recipe: Recipe, *, seed: int, name: str) -> np.ndarray:
    """Apply a recipe to a recording, except its warp, which the mel filters apply.

    Parameters
    ----------
    sound : Sound
    sample_rate : int
        Hz of the result.
    recipe : Recipe
    seed : int
    name : str
        Name of the copy. The noise depends on it and on `seed`.

    Returns
    -------
    np.ndarray [shape=(n,)], float32
    """
    # resampled to a lower rate and read at the full rate, speech is faster
    waveform = sound.mono(round(sample_rate / recipe.speed))
    if recipe.tilt_db:
        waveform = tilted(waveform, sample_rate, recipe.tilt_db)
    if recipe.snr_db is not None:
        waveform = with_noise(waveform, recipe.snr_db, pink=recipe.pink, rng=_seeded(f"{seed} {name}"))
    if recipe.narrow:
        from scipy.signal import butter, sosfilt  # slow to import, and rarely needed

        high = min(_TELEPHONE_HZ[1], 0.45 * sample_rate)
        waveform = sosfilt(butter(4, (_TELEPHONE_HZ[0], high), "bandpass", fs=sample_rate, output="sos"), waveform)
    return waveform.astype(np.float32)


def with_noise(waveform: np.ndarray, snr_db: float, *, pink: bool, rng: np.random.Generator) -> np.ndarray:
    """Return a waveform with white or pink noise `snr_db` below its mean power [shape=(n,)], float32."""
    spectrum = np.fft.rfft(rng.standard_normal(len(waveform)))
    if pink:
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum, len(waveform))
    wanted = np.mean(waveform.astype(np.float64) ** 2) / 10 ** (snr_db / 10)
    found = max(float(np.mean(noise**2)), 1e-20)
    return (waveform + noise * np.sqrt(wanted / found)).astype(np.float32)


def _generator(settings: AugmentSettings, name: str, number: int) -> np.random.Generator:
    return _seeded(f"{settings.seed} {name} {number} recipe")


def _seeded(what: str) -> np.random.Generator:
    return np.random.default_rng(int(digest_json(what)[:16], 16))


_PIVOT_HZ: Final = 1000.0
_TILTED_HZ: Final = (100.0, 8000.0)
"""The slope applies between these frequencies; the gain is constant outside."""


def tilted(waveform: np.ndarray, sample_rate: int, slope_db: float) -> np.ndarray:
    """Add a slope to the spectrum and keep the level.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n,)]
    sample_rate : int
        Hz.
    slope_db : float
        In dB per octave, between 100 Hz and 8 kHz.

    Returns
    -------
    np.ndarray [shape=(n,)], float64
    """
    spectrum = np.fft.rfft(waveform)
    frequencies = np.clip(np.fft.rfftfreq(len(waveform), 1.0 / sample_rate), *_TILTED_HZ)
    changed = np.fft.irfft(spectrum * 10.0 ** (slope_db * np.log2(frequencies / _PIVOT_HZ) / 20.0), len(waveform))
    return changed * (_rms(waveform) / max(_rms(changed), 1e-12))


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
