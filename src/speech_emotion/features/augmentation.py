"""Takes a recording; gives copies of it in other voices and over other lines, for training alone."""

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
    """How one copy differs from its recording.

    Attributes
    ----------
    speed : float
        Pitch, formants and tempo, all raised by this factor.
    warp : float
        Formants moved by this factor on top; for `mfcc.Extractor`.
    tilt_db : float
        Slope added to the spectrum, in dB an octave.
    snr_db : float or None
        Level of the voice over that of added noise; None: no noise.
    pink : bool
        Whether the noise falls by 3 dB an octave.
    narrow : bool
        Whether only what a telephone carries is left, 300 to 3400 Hz.
    """

    speed: float
    warp: float
    tilt_db: float
    snr_db: float | None
    pink: bool
    narrow: bool


@dataclass(frozen=True)
class Copy:
    """The `number`th copy of every utterance: a rendition for `extraction`."""

    settings: AugmentSettings
    number: int

    @property
    def voice(self) -> str:
        """Its name in the store."""
        return f"copy-{self.number}"

    def frames(self, sound: Sound, name: str, settings: FeaturizeSettings) -> np.ndarray:
        """Return the features of the copy [shape=(t, coefficients)], float32."""
        how = recipe(self.settings, name, self.number)
        waveform = render(sound, settings.sample_rate, how, seed=self.settings.seed, name=f"{name} {self.number}")
        return Extractor(settings, warp=how.warp)(waveform)


def recipe(settings: AugmentSettings, name: str, number: int) -> Recipe:
    """Draw how copy `number` of utterance `name` differs: a function of these and `settings.seed` alone."""
    rng = _generator(settings, name, number)
    speed, warp = (float(np.exp(rng.uniform(*np.log(ends)))) for ends in (settings.speed, settings.warp))
    noisy, pink, narrow, share = rng.random(4)
    tilt_db = float(rng.uniform(*settings.tilt_db))
    snr_db = settings.snr_db[0] + share * (settings.snr_db[1] - settings.snr_db[0])
    noise = float(snr_db) if noisy < settings.noisy else None
    return Recipe(speed, warp, tilt_db, noise, pink < 0.5, narrow < settings.narrow)


def render(sound: Sound, sample_rate: int, recipe: Recipe, *, seed: int, name: str) -> np.ndarray:
    """Return a recording's waveform as `recipe` has it, but for the warp, which belongs to the mel filters.

    Parameters
    ----------
    sound : Sound
    sample_rate : int
        Hz, of the result.
    recipe : Recipe
    seed : int
    name : str
        Of the copy; its noise is a function of it and of `seed`.

    Returns
    -------
    np.ndarray [shape=(n,)], float32
    """
    # what is resampled to a lower rate and then heard at the full one is heard faster
    waveform = sound.mono(round(sample_rate / recipe.speed))
    if recipe.tilt_db:
        waveform = tilted(waveform, sample_rate, recipe.tilt_db)
    if recipe.snr_db is not None:
        waveform = with_noise(waveform, recipe.snr_db, pink=recipe.pink, rng=_seeded(f"{seed} {name}"))
    if recipe.narrow:
        from scipy.signal import butter, sosfilt  # takes longer to import than most of what a worker does without it

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
"""Where the slope is changed; beyond it the gain stays what it is at the end."""


def tilted(waveform: np.ndarray, sample_rate: int, slope_db: float) -> np.ndarray:
    """Return a sound whose spectrum rises by `slope_db` dB an octave more than before, at the sound's own level.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n,)]
    sample_rate : int
        Hz.
    slope_db : float
        Between 100 Hz and 8 kHz.

    Returns
    -------
    np.ndarray [shape=(n,)], float64
    """
    spectrum = np.fft.rfft(waveform)
    frequencies = np.clip(np.fft.rfftfreq(len(waveform), 1.0 / sample_rate), *_TILTED_HZ)
    heard = np.fft.irfft(spectrum * 10.0 ** (slope_db * np.log2(frequencies / _PIVOT_HZ) / 20.0), len(waveform))
    return heard * (_rms(waveform) / max(_rms(heard), 1e-12))


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
