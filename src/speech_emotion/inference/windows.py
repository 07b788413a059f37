"""Predict the emotion of a whole recording and, if it is longer than one window, of each window.

MLflow's server, `speech-emotion serve` and the web page all use this module. The package sets the length of windows, so
that a promoted model predicts the same everywhere.
"""

import math
from dataclasses import dataclass
from typing import Final

from speech_emotion.audio.decode import AudioError, Sound
from speech_emotion.config.serving import WindowSettings
from speech_emotion.core.errors import UserError
from speech_emotion.inference.profile import Profile
from speech_emotion.inference.recognizer import Audio, Prediction, Recognizer
from speech_emotion.models.package import Package

FILE: Final = "windows.json"
"""The settings file of a package; without it, `DEFAULT` applies."""

DEFAULT: Final = WindowSettings(seconds=3.0, hop_seconds=1.5)
"""A window is as long as the longest utterance of TESS, on which the model is trained."""


_TOGETHER: Final = 8
"""Windows in one batch. ONNX Runtime never frees the memory of its largest batch."""


@dataclass(frozen=True)
class Window:
    """The prediction of a part of a recording, from `start` to `end` in seconds."""

    start: float
    end: float
    prediction: Prediction


@dataclass(frozen=True)
class Answer:
    """The predictions of a recording.

    `whole` is that of `Recognizer.predict`. `windows` are in order of time, without silent ones; empty if the recording
    is not longer than one window.
    """

    whole: Prediction
    windows: tuple[Window, ...]


class WindowedRecognizer:
    """A recognizer that predicts windows, too. Any number of threads can use it at the same time.

    Without `settings`, those of the package apply; see `settings_of`.
    """

    def __init__(self, recognizer: Recognizer, settings: WindowSettings | None = None) -> None:
        self.recognizer = recognizer
        self.settings = settings or settings_of(recognizer.package)

    def of_speaker(self, profile: str | None) -> "WindowedRecognizer":
        """Return a recognizer for the speaker of a profile in JSON; itself without one. See `with_profile`."""
        if not profile:
            return self
        return WindowedRecognizer(self.recognizer.with_profile(Profile.parse(profile, "profile")), self.settings)

    def __call__(self, audio: Audio, sample_rate: int | None = None) -> Answer:
        """Predict one recording; see `Recognizer.predict`."""
        sound = self.recognizer.sound(audio, sample_rate)
        frames = self.recognizer.frames(sound)
        [whole] = self._predict([frames])
        features = self.recognizer.package.description.features
        seconds = len(frames) * features.hop_length / features.sample_rate
        return Answer(whole, self._windows(sound) if seconds > self.settings.seconds else ())

    def _windows(self, sound: Sound) -> tuple[Window, ...]:
        rate = self.recognizer.package.description.features.sample_rate
        samples, frames, used = sound.mono(rate), [], []
        for start, end in spans(sound.seconds, self.settings):
            try:
                frames.append(self.recognizer.frames(samples[round(start * rate) : round(end * rate)], rate))
                used.append((start, end))
            except AudioError:  # a pause
                continue
        return tuple(
            Window(start, end, prediction) for (start, end), prediction in zip(used, self._predict(frames), strict=True)
        )

    def _predict(self, frames: list) -> list[Prediction]:
        return [
            one
            for start in range(0, len(frames), _TOGETHER)
            for one in self.recognizer.answers(self.recognizer.predict_frames(frames[start : start + _TOGETHER]))
        ]


def spans(seconds: float, settings: WindowSettings) -> list[tuple[float, float]]:
    """Return the start and end of each window of a recording, in seconds.

    One window begins every `hop_seconds`; the last ends where the recording ends. A recording that is not longer than
    one window has none.

    Examples
    --------
    >>> spans(7.0, WindowSettings(seconds=3.0, hop_seconds=1.5))
    [(0.0, 3.0), (1.5, 4.5), (3.0, 6.0), (4.0, 7.0)]
    """
    spare = seconds - settings.seconds
    if spare <= 0:
        return []
    count = math.ceil(round(spare / settings.hop_seconds, 6))
    starts = [round(number * settings.hop_seconds, 3) for number in range(count)]
    return [(start, round(start + settings.seconds, 3)) for start in starts] + [(round(spare, 3), round(seconds, 3))]


def settings_of(package: Package) -> WindowSettings:
    """Return the window settings of a package, or `DEFAULT`; raise a UserError if the file is damaged."""
    path = package.folder / FILE
    if not path.is_file():
        return DEFAULT
    try:
        return WindowSettings.model_validate_json(path.read_bytes())
    except ValueError:
        raise UserError(f"{path}: damaged. Fetch the package again.") from None
