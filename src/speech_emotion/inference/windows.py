"""Takes a recording; gives what is heard in the whole of it and, where it is longer than a window, in each window.

The one place that cuts recordings: MLflow's server, `speech-emotion serve` and pages ask it. How long a window is lies
in the package, so that a promoted model answers alike wherever it runs.
"""

import math
from dataclasses import dataclass
from typing import Final

from speech_emotion.audio.decode import AudioError, decode, from_array
from speech_emotion.config.serving import WindowSettings
from speech_emotion.core.errors import UserError
from speech_emotion.inference.recognizer import Audio, Prediction, Recognizer
from speech_emotion.models.package import Package

FILE: Final = "windows.json"
"""What a package calls its settings; a package without this file has `DEFAULT`."""

DEFAULT: Final = WindowSettings(seconds=3.0, hop_seconds=1.5)
"""A window holds the longest utterance of TESS, which is what the model has learned to hear at once."""


_TOGETHER: Final = 8
"""Windows that are answered at once. ONNX Runtime keeps the memory of the largest batch that it has ever seen."""


@dataclass(frozen=True)
class Window:
    """What is heard in a part of a recording.

    Attributes
    ----------
    start, end : float
        Seconds from the recording's beginning.
    prediction : Prediction
    """

    start: float
    end: float
    prediction: Prediction


@dataclass(frozen=True)
class Answer:
    """What is heard in a recording.

    Attributes
    ----------
    whole : Prediction
        As `Recognizer.predict` gives it.
    windows : tuple of Window
        In their order; none where the recording is no longer than one. A window that is silent, or holds what cannot
        be used, is left out.
    """

    whole: Prediction
    windows: tuple[Window, ...]


class Listener:
    """A recogniser that answers windows as well, to any number of threads at once.

    Parameters
    ----------
    recognizer : Recognizer
    settings : WindowSettings, optional
        None: those of the package.

    Raises
    ------
    UserError
        The package's settings are damaged.
    """

    def __init__(self, recognizer: Recognizer, settings: WindowSettings | None = None) -> None:
        self.recognizer = recognizer
        self.settings = settings or settings_of(recognizer.package)

    def __call__(self, audio: Audio, sample_rate: int | None = None) -> Answer:
        """Answer one recording; takes and raises what `Recognizer.predict` does."""
        frames = self.recognizer.frames(audio, sample_rate)
        [whole] = self._predict([frames])
        features = self.recognizer.package.description.features
        # to the hop: whether it is worth decoding it once more
        seconds = len(frames) * features.hop_length / features.sample_rate
        return Answer(whole, self._windows(audio, sample_rate) if seconds > self.settings.seconds else ())

    def _windows(self, audio: Audio, sample_rate: int | None) -> tuple[Window, ...]:
        longest = self.recognizer.package.description.limits.max_seconds
        if sample_rate is None:
            sound = decode(audio, max_seconds=longest)  # type: ignore[arg-type]
        else:
            sound = from_array(audio, sample_rate, max_seconds=longest)  # type: ignore[arg-type]
        rate = self.recognizer.package.description.features.sample_rate
        samples, frames, heard = sound.mono(rate), [], []
        for start, end in spans(sound.seconds, self.settings):
            try:
                frames.append(self.recognizer.frames(samples[round(start * rate) : round(end * rate)], rate))
                heard.append((start, end))
            except AudioError:  # a pause in a long recording is no mistake
                continue
        return tuple(
            Window(start, end, prediction)
            for (start, end), prediction in zip(heard, self._predict(frames), strict=True)
        )

    def _predict(self, frames: list) -> list[Prediction]:
        return [
            one
            for start in range(0, len(frames), _TOGETHER)
            for one in self.recognizer.answers(self.recognizer.predict_frames(frames[start : start + _TOGETHER]))
        ]


def spans(seconds: float, settings: WindowSettings) -> list[tuple[float, float]]:
    """Return where the windows of a recording begin and end, in seconds.

    Parameters
    ----------
    seconds : float
        How long the recording is.
    settings : WindowSettings

    Returns
    -------
    list of tuple of float
        None for a recording that is no longer than one window. Otherwise one each `hop_seconds`, all of them whole: the
        last ends where the recording ends.

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
    """Return the settings that a package carries, or `DEFAULT`.

    Raises
    ------
    UserError
        The file is damaged.
    """
    path = package.folder / FILE
    if not path.is_file():
        return DEFAULT
    try:
        return WindowSettings.model_validate_json(path.read_bytes())
    except ValueError:
        raise UserError(f"{path}: is not what the package stage wrote. Fetch the package again.") from None
