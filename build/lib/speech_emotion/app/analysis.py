"""Analyse one recording for the page: prediction, windows, waveform and spectrogram."""

import json
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from speech_emotion.audio.decode import Sound, decode
from speech_emotion.evaluation.occlusion import first_frame, occlude_window
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.windows import Answer, Listener
from speech_emotion.models.package import NORMALIZATION, Package

PLACES: Final = 48
"""At which a window hides something, at most: the network answers once for each."""

FRAMES: Final = 80_000
"""Of all those answers together, about; so a minute has fewer places, and the page still answers in a second or two."""

HIDDEN_SECONDS: Final = 0.2
"""Of the window that is hidden; in a long recording it is as long as the step, so that nothing is passed over."""


@dataclass(frozen=True)
class Attention:
    """What the answer rests on, along a recording.

    Attributes
    ----------
    start, step : float
        Seconds from the recording's beginning to the middle of the first place, and from one to the next.
    lost : np.ndarray [shape=(places,)]
        Log-odds of the answer that are missing when that place is hidden, in nats; below 0 where hiding it helps.
    """

    start: float
    step: float
    lost: np.ndarray


@dataclass(frozen=True)
class Analysis:
    """A recording and its analysis.

    Attributes
    ----------
    answer : Answer
        In whole and, if it is long, by windows.
    wave : np.ndarray [shape=(n,)], float32
        One channel at `sample_rate`: what the features are made from.
    sample_rate : int
        Hz.
    attention : Attention
    """

    answer: Answer
    wave: np.ndarray
    sample_rate: int
    attention: Attention

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.wave) / self.sample_rate


def analyse(listener: Listener, recording: bytes) -> Analysis:
    """Answer a recording, and find out what the answer rests on.

    Raises
    ------
    AudioError
        As `Recognizer.predict` does; the message says why, without the recording's name.
    """
    recognizer = listener.recognizer
    description = recognizer.package.description
    sound = decode(recording, max_seconds=description.limits.max_seconds)
    answer = listener(sound.samples, sound.sample_rate)
    wave = sound.mono(description.features.sample_rate)
    return Analysis(answer, wave, description.features.sample_rate, attend(recognizer, sound))


def attend(recognizer: Recognizer, sound: Sound) -> Attention:
    """Hide a window at each of at most `PLACES` places of a recording; see `occlusion.occlude_window`."""
    settings = recognizer.package.description.features
    hop = settings.hop_length / settings.sample_rate
    frames = recognizer.frames(sound.samples, sound.sample_rate)
    step = max(1, math.ceil(len(frames) / min(PLACES, FRAMES / len(frames))))
    width = max(step, round(HIDDEN_SECONDS / hop))
    lost = occlude_window(recognizer, frames, _nothing(recognizer.package, frames), width=width, step=step)
    return Attention(start=first_frame(sound.mono(settings.sample_rate), settings) * hop, step=step * hop, lost=lost)


def _nothing(package: Package, frames: np.ndarray) -> np.ndarray:
    """Return the frame that says nothing: the mean of what the network learned from, else of the recording."""
    mean = json.loads((package.folder / NORMALIZATION).read_text(encoding="utf-8"))["mean"]
    return frames.mean(axis=0) if mean is None else np.array(mean, dtype=np.float32)
