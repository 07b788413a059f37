"""Takes a recording and the settings of a voice; gives the same words in that voice, as pure functions.

A pseudo-speaker is a recorded speaker whose vocal tract, pitch, melody, tempo, level, microphone, room and noise are
changed, each by itself, far enough to be taken for somebody else. Nor does it act as its source does: for each emotion,
pitch, melody, tempo and the slope of the spectrum are moved once more, by factors drawn for that voice and emotion.
What is kept is the words, their timing against each other and the shape of the melody.

Praat's "Change gender" does the voice (Boersma and Weenink; pitch-synchronous overlap-add after Moulines and
Charpentier, 1990): the resonances are moved by resampling, and pitch and tempo are then set anew.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import parselmouth
import soxr
from parselmouth import praat
from scipy.signal import fftconvolve

from speech_emotion.audio import Sound
from speech_emotion.features import Extractor
from speech_emotion.files import canonical_json
from speech_emotion.filters import tilted
from speech_emotion.settings.featurize import FeaturizeSettings
from speech_emotion.settings.pseudo_speakers import ActingSettings, VoiceSettings

PITCH_FLOOR: Final = 75.0
"""Hz; where Praat looks for the fundamental frequency, of men and women, whispered to shouted."""
PITCH_CEILING: Final = 600.0

DIRECT_TO_REVERBERANT_DB: Final = 6.0
"""How much louder the voice itself is than the room's echo of it: a microphone at arm's length."""

WIDEST_RATE: Final = 48_000
"""Hz; recordings are changed at their own rate up to this. At the features' rate a deep voice would end far below half
of it: whatever moves down leaves nothing behind above."""

_GAP_SECONDS: Final = 0.003
"""Between the voice and the first echo: a wall half a metre away."""
_FULL_SCALE: Final = 0.999
_WIDEST: Final = 3.0
_LARGEST_GAIN: Final = 8.0
"""Between the peaks of what goes into Praat and what comes out; overlapping periods add up, but not to more."""
_PRAAT_SEED: Final = 7


@dataclass(frozen=True)
class Manner:
    """What a voice does otherwise than its source to show one emotion; these values change nothing."""

    pitch: float = 1.0
    pitch_range: float = 1.0
    tempo: float = 1.0
    tilt_db: float = 0.0


def manner(acting: ActingSettings, voice: str, emotion: str, *, seed: int) -> Manner:
    """Draw how a voice acts an emotion: a function of the arguments alone."""
    pitch, pitch_range, tempo, tilt = _generator(seed, voice, emotion, "acting").standard_normal(4)
    return Manner(
        pitch=float(np.exp(acting.pitch * pitch)),
        pitch_range=float(np.exp(acting.pitch_range * pitch_range)),
        tempo=float(np.exp(acting.tempo * tempo)),
        tilt_db=float(acting.tilt_db * tilt),
    )


@dataclass(frozen=True)
class Impersonated:
    """Every utterance in a pseudo-speaker's voice: a rendition for `extraction`.

    Attributes
    ----------
    settings : VoiceSettings
    seed : int
    acting : ActingSettings or None
        None: every emotion is acted as it was recorded.
    emotions : mapping of str to str
        The emotion of each utterance, by id.
    """

    settings: VoiceSettings
    seed: int
    acting: ActingSettings | None = None
    emotions: Mapping[str, str] = field(default_factory=dict)

    @property
    def voice(self) -> str:
        """Its name in the store."""
        return self.settings.name.replace(" ", "-")

    def waveform(self, sound: Sound, name: str, sample_rate: int) -> np.ndarray:
        """Return an utterance in this voice, at a sample rate in Hz [shape=(n,)], float32."""
        wide = max(sample_rate, min(sound.sample_rate, WIDEST_RATE))
        acted = Manner()
        if self.acting is not None:
            acted = manner(self.acting, self.voice, self.emotions[name], seed=self.seed)
        spoken = impersonate(sound.mono(wide), wide, self.settings, seed=self.seed, name=name, acted=acted)
        if wide == sample_rate:
            return spoken
        return soxr.resample(spoken, wide, sample_rate, quality="HQ").astype(np.float32)

    def frames(self, sound: Sound, name: str, settings: FeaturizeSettings) -> np.ndarray:
        """Return the features of the utterance in this voice [shape=(t, coefficients)], float32."""
        return Extractor(settings)(self.waveform(sound, name, settings.sample_rate))


def impersonate(
    waveform: np.ndarray,
    sample_rate: int,
    voice: VoiceSettings,
    *,
    seed: int,
    name: str,
    acted: Manner = Manner(),
) -> np.ndarray:
    """Return an utterance in another voice, in another place.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n,)], float32
        Samples between -1 and 1; at least one.
    sample_rate : int
        Hz.
    voice : VoiceSettings
    seed : int
        With `name` and the voice's name it decides on the room and the noise.
    name : str
        The utterance's id.
    acted : Manner
        How the voice shows the utterance's emotion.

    Returns
    -------
    np.ndarray [shape=(m,)], float32
        At the same sample rate, about n samples divided by the tempo of voice and manner, between -1 and 1. Equal
        arguments give equal bytes, in every process.

    Notes
    -----
    An utterance in which Praat finds no voice at all, or none that it can change, is resampled by the formants' factor
    instead: its resonances are those of the voice, its tempo is not.
    """
    changed = revoiced(waveform, sample_rate, voice, acted)
    changed = tilted(changed, sample_rate, voice.tilt_db + acted.tilt_db)
    rng = _generator(seed, name, voice.name)
    if voice.rt60 is not None:
        changed = in_room(changed, sample_rate, rt60=voice.rt60, direct_db=DIRECT_TO_REVERBERANT_DB, rng=rng)
    if voice.snr_db is not None:
        changed = with_pink_noise(changed, snr_db=voice.snr_db, rng=rng)
    changed = changed * 10.0 ** (voice.level_db / 20.0)
    return (changed * min(1.0, _FULL_SCALE / max(float(np.abs(changed).max()), 1e-9))).astype(np.float32)


def revoiced(waveform: np.ndarray, sample_rate: int, voice: VoiceSettings, acted: Manner = Manner()) -> np.ndarray:
    """Return the words in the voice alone: formants, pitch and tempo [shape=(m,)], float64."""
    sound = parselmouth.Sound(waveform.astype(np.float64), sampling_frequency=float(sample_rate))
    # Praat lengthens what has no pitch by pieces drawn at random
    praat.run(f"random_initializeWithSeedUnsafelyButPredictably ({_PRAAT_SEED})")
    try:
        frequencies = sound.to_pitch(pitch_floor=PITCH_FLOOR, pitch_ceiling=PITCH_CEILING).selected_array["frequency"]
        voiced = frequencies[frequencies > 0]
        if not len(voiced):
            return _resampled(waveform, sample_rate, voice.formants)
        median = float(np.median(voiced))
        spread = _possible_range(voiced / median, voice.pitch_range * acted.pitch_range)
        target = median * voice.pitch * acted.pitch
        longer = 1.0 / (voice.tempo * acted.tempo)
        search = (PITCH_FLOOR, PITCH_CEILING)
        spoken = praat.call(sound, "Change gender", *search, voice.formants, target, spread, longer).values[0]
    except parselmouth.PraatError:  # too short for Praat to find a pitch, or nothing to put together again
        return _resampled(waveform, sample_rate, voice.formants)
    if not len(spoken) or not np.abs(spoken).max() <= _LARGEST_GAIN * np.abs(waveform).max():
        return _resampled(waveform, sample_rate, voice.formants)
    return np.asarray(spoken, dtype=np.float64)


def _possible_range(relative: np.ndarray, wanted: float) -> float:
    """Return the factor of the pitch range, less where the pitch would leave a third to three times its median.

    Praat stretches every frame's pitch about the median, mistaken octaves too, and fails where one falls below zero.
    """
    if wanted <= 1:
        return wanted
    lowest, highest = float(relative.min()), float(relative.max())
    down = (1 - 1 / _WIDEST) / max(1 - lowest, 1e-9)
    up = (_WIDEST - 1) / max(highest - 1, 1e-9)
    return max(1.0, min(wanted, down, up))


def in_room(
    waveform: np.ndarray, sample_rate: int, *, rt60: float, direct_db: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a sound as a room answers it, at the sound's own length and level.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n,)]
    sample_rate : int
        Hz.
    rt60 : float
        Seconds in which the echo falls by 60 dB.
    direct_db : float
        Energy of the direct sound over that of the echo.
    rng : np.random.Generator

    Notes
    -----
    The impulse response is one sample, then noise that decays exponentially: the late field of a room without shape
    (Polack, 1988; Habets, 2007, section 1.3).
    """
    time = np.arange(max(1, round(rt60 * sample_rate))) / sample_rate
    tail = rng.standard_normal(len(time)) * 10.0 ** (-3.0 * time / rt60)
    tail *= 10.0 ** (-direct_db / 20.0) / np.sqrt((tail**2).sum())
    response = np.concatenate([[1.0], np.zeros(round(_GAP_SECONDS * sample_rate)), tail])
    heard = fftconvolve(waveform.astype(np.float64), response)[: len(waveform)]
    return heard * (_rms(waveform) / max(_rms(heard), 1e-12))


def with_pink_noise(waveform: np.ndarray, *, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Return a sound with noise whose power falls by 3 dB an octave, `snr_db` below the sound's own level."""
    spectrum = np.fft.rfft(rng.standard_normal(len(waveform)))
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), n=len(waveform))
    return waveform + noise * (_rms(waveform) / max(_rms(noise), 1e-12) * 10.0 ** (-snr_db / 20.0))


def _resampled(waveform: np.ndarray, sample_rate: int, factor: float) -> np.ndarray:
    """Return the sound played faster by a factor: everything in it moves up by as much."""
    played = soxr.resample(waveform.astype(np.float64), sample_rate * factor, sample_rate, quality="HQ")
    return played if len(played) else waveform.astype(np.float64)


def _generator(*named_by: int | str) -> np.random.Generator:
    """Return random numbers that depend on names alone, not on the order or the process in which they are asked for."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(canonical_json(list(named_by)).encode()).digest()))


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
