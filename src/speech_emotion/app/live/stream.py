"""Predict each window of an audio stream as soon as it is complete.

The windows are those of `windows.spans`, so a played file gets the same predictions as in the server and the page.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from speech_emotion.app.live.sources import Block
from speech_emotion.audio.decode import AudioError
from speech_emotion.config.serving import WindowSettings
from speech_emotion.inference.recognizer import Prediction, Recognizer


@dataclass(frozen=True)
class Moment:
    """The prediction of a window from `start` to `end`, in seconds."""

    start: float
    end: float
    prediction: Prediction | None
    reason: str
    """Why there is no prediction, such as silence."""
    latency: float
    """Seconds from the arrival of the window's last sample to its prediction."""


class Stream:
    """Cut incoming audio into windows and predict each."""

    def __init__(self, recognizer: Recognizer, settings: WindowSettings, sample_rate: int) -> None:
        self._recognizer, self._settings, self._rate = recognizer, settings, sample_rate
        self._held = np.zeros(0, np.float32)
        """The newest samples: as many as the next window needs."""
        self._dropped = 0
        self._answered = 0
        self._last_end = 0.0

    def feed(self, block: Block) -> Iterator[Moment]:
        """Take a block and yield the prediction of each window that it completes."""
        self._held = np.concatenate([self._held, block.samples])
        while True:
            start = round(self._answered * self._settings.hop_seconds, 3)
            end = round(start + self._settings.seconds, 3)
            if self._dropped + len(self._held) < round(end * self._rate):
                return
            yield self._answer(start, end, block.arrived)
            self._answered += 1
            # every later window starts after this
            before = round(start * self._rate)
            self._held, self._dropped = self._held[before - self._dropped :], before

    def finish(self) -> Iterator[Moment]:
        """Yield the prediction of the last window, which ends with the audio."""
        end = round((self._dropped + len(self._held)) / self._rate, 3)
        if end > self._last_end:
            yield self._answer(round(max(0.0, end - self._settings.seconds), 3), end, time.perf_counter())

    def _answer(self, start: float, end: float, arrived: float) -> Moment:
        self._last_end = end
        samples = self._held[round(start * self._rate) - self._dropped : round(end * self._rate) - self._dropped]
        try:
            found, reason = self._recognizer.predict(samples, self._rate), ""
        except AudioError as error:
            found, reason = None, str(error)
        return Moment(start, end, found, reason, time.perf_counter() - arrived)
