"""Predict emotions with a model package. Every prediction of this library comes from here.

The network is an ONNX graph: TensorFlow, MLflow and librosa are not imported. A clip of two seconds takes one to two
milliseconds.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeAlias

import numpy as np
import onnxruntime

from speech_emotion.audio.decode import AudioError, Sound, decode, from_array
from speech_emotion.core.errors import UserError
from speech_emotion.features.enrolment import shift
from speech_emotion.features.frames import lengths_of, pad
from speech_emotion.features.mfcc import Extractor, names
from speech_emotion.inference.profile import Profile
from speech_emotion.models.package import Calibration, Package

Audio: TypeAlias = "str | Path | bytes | np.ndarray | Sound"
"""The path or the bytes of a recording, samples (n,) or (n, channels) with a sample rate, or a decoded recording."""

SILENCE_DBFS: Final = -80.0
"""Audio whose peak is below this level (3 steps of 16-bit audio) is refused: a classifier would return some emotion."""

_BATCH_FRAMES: Final = 16_384
"""Frames of a batch, padding included: enough for a core to run at full speed, in a few MB of memory."""


@dataclass(frozen=True)
class Prediction:
    """The prediction of one recording: the most probable emotion and its probability.

    `probabilities` has those of all labels, in the package's order; the sum is 1. `sure` says whether the confidence
    reaches the package's threshold. If not, report "not sure".
    """

    label: str
    confidence: float
    probabilities: Mapping[str, float]
    sure: bool = True


class Recognizer:
    """A loaded model. Any number of threads can use it at the same time.

    `threads` are those of ONNX Runtime for one batch. With one, results do not depend on the number of cores.

    Raises
    ------
    UserError
        The package's graph cannot be loaded, or its inputs or outputs do not match the description.

    Examples
    --------
    >>> import speech_emotion
    >>> recognizer = speech_emotion.load()  # doctest: +SKIP
    >>> recognizer.predict("clip.wav").label  # doctest: +SKIP
    'happy'
    """

    def __init__(self, package: Package, *, threads: int = 1) -> None:
        self.package = package
        self.temperature, self.rejection = package.description.temperature, package.description.rejection
        self._shift: np.ndarray | None = None
        self._extractor = Extractor(package.description.features)
        self._session = _session(package, threads)
        _check_graph(package, self._session)

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 1) -> Self:
        """Load the package in a folder; see `Package.load` for errors."""
        return cls(Package.load(folder), threads=threads)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of `predict_frames`."""
        return self.package.labels

    @property
    def has_profile(self) -> bool:
        """Whether it subtracts the profile of a speaker."""
        return self._shift is not None

    def predict(self, audio: Audio, sample_rate: int | None = None) -> Prediction:
        """Predict the emotion of one recording.

        Parameters
        ----------
        audio : str, Path, bytes or np.ndarray [shape=(n,) or (n, channels)]
            A path, the bytes of a recording, or samples: floats from -1 to 1, or integers of full scale.
        sample_rate : int, optional
            Hz; required for samples, not allowed otherwise.

        Raises
        ------
        AudioError
            Not audio, damaged, silent, or outside the package's limits of duration.
        UserError
            A sample rate is missing or not allowed.
        """
        return self.answers(self.predict_frames([self.frames(audio, sample_rate)]))[0]

    def predict_batch(self, audio: Sequence[Audio], sample_rate: int | None = None) -> list[Prediction]:
        """Predict many recordings; each result equals that of `predict` within 1e-5.

        Raise as `predict` for the first recording that cannot be used, which the message names.
        """
        return self.answers(self.predict_frames(_each(audio, lambda one: self.frames(one, sample_rate))))

    def enroll(self, recordings: Sequence[Audio], sample_rate: int | None = None) -> Profile:
        """Return the profile of a speaker from recordings of the speaker's usual voice; see `with_profile`.

        Parameters
        ----------
        recordings : sequence of str, Path, bytes or np.ndarray
            About ten seconds in all; neutral speech is best.
        sample_rate : int, optional
            Hz; required for samples, not allowed otherwise.

        Raises
        ------
        AudioError
            A recording cannot be used; the message names it.
        UserError
            There is no recording, or the model was trained without references.
        """
        self.enrolment()
        if not recordings:
            raise UserError("a speaker profile needs at least one recording.")
        return self.profile_of(_each(recordings, lambda one: self._features(one, sample_rate)))

    def profile_of(self, recordings: Sequence[np.ndarray]) -> Profile:
        """Return the profile of a speaker from the features of recordings, as `enroll` does."""
        frames = np.concatenate(recordings)
        mean = frames.mean(axis=0, dtype=np.float64)
        return Profile(spec_digest=self.package.description.spec_digest, frames=len(frames), mean=tuple(mean.tolist()))

    def with_profile(self, profile: Profile) -> Self:
        """Return a recognizer for one speaker: it subtracts the profile from the features.

        Raise a `UserError` if the profile was made for other features, or the model was trained without references.
        """
        calibration, statistics = self.enrolment()
        description = self.package.description
        if profile.spec_digest != description.spec_digest or len(profile.mean) != len(statistics[0]):
            raise UserError("the profile was made for another model. Make it again with `speech-emotion enroll`.")
        enrolled = copy.copy(self)
        enrolled.temperature, enrolled.rejection = calibration.temperature, calibration.rejection
        enrolled._shift = shift(np.array(profile.mean), profile.frames, statistics)
        return enrolled

    def enrolment(self) -> tuple[Calibration, tuple[np.ndarray, np.ndarray]]:
        """Return the calibration for profiles, and mean and deviation of the features; raise a UserError without."""
        calibration, statistics = self.package.description.enrolled, self.package.statistics
        if calibration is None or statistics is None:
            raise UserError(
                "this model was trained without speaker references (train.references) and accepts no speaker profile."
            )
        return calibration, statistics

    def frames(self, audio: Audio, sample_rate: int | None = None) -> np.ndarray:
        """Return a recording's features [shape=(t, coefficients)], float32, minus the profile; see `predict`."""
        return self.shifted(self._features(audio, sample_rate))

    def shifted(self, frames: np.ndarray) -> np.ndarray:
        """Return features of this speaker minus the profile."""
        return frames if self._shift is None else frames - self._shift

    def _features(self, audio: Audio, sample_rate: int | None) -> np.ndarray:
        sound = self.sound(audio, sample_rate)
        shortest = self.package.description.limits.min_seconds
        if sound.seconds < shortest:
            raise AudioError(f"is shorter than {shortest:g} s ({sound.seconds:.3f} s)")
        if sound.peak < 10 ** (SILENCE_DBFS / 20):
            raise AudioError(f"is silent (never louder than {SILENCE_DBFS:g} dBFS)")
        return self._extractor(sound.mono(self.package.description.features.sample_rate))

    def predict_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities of utterances [shape=(n, labels)], given their features [shape=(t, coefficients)].

        They are the softmax of the logits divided by the package's temperature, in float64.
        """
        scaled = self._logits(frames).astype(np.float64) / self.temperature
        # softmax; importing SciPy would double the start-up time of `predict`
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def answers(self, probabilities: np.ndarray) -> list[Prediction]:
        """Return the result of `predict_frames` [shape=(n, labels)] as predictions."""
        threshold = self.rejection.threshold if self.rejection else 0.0
        return [
            Prediction(
                self.labels[best],
                float(row[best]),
                dict(zip(self.labels, row.tolist(), strict=True)),
                sure=bool(row[best] >= threshold),
            )
            for row, best in zip(probabilities, probabilities.argmax(axis=1), strict=True)
        ]

    def sound(self, audio: Audio, sample_rate: int | None = None) -> Sound:
        """Decode a recording within the package's limit of duration; see `predict`."""
        longest = self.package.description.limits.max_seconds
        if isinstance(audio, Sound):
            return audio
        if isinstance(audio, np.ndarray):
            if sample_rate is None:
                raise UserError("samples need a sample rate: predict(samples, sample_rate=16000)")
            return from_array(audio, sample_rate, max_seconds=longest)
        if not isinstance(audio, (str, Path, bytes)):
            raise UserError(f"audio must be a path, bytes or an array of samples, not {type(audio).__name__}")
        if sample_rate is not None:
            raise UserError("sample_rate is for samples only; a file has its own")
        return decode(audio, max_seconds=longest)

    def _logits(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        if not frames:
            return np.zeros((0, len(self.labels)), np.float32)
        rows: list[np.ndarray] = []
        order: list[int] = []
        for chosen in _batches(lengths_of(frames).tolist()):
            padded, lengths = pad([frames[index] for index in chosen])
            rows.append(self._session.run(["logits"], {"frames": padded, "lengths": lengths})[0])
            order += chosen
        found = np.concatenate(rows)
        placed = np.empty_like(found)
        placed[order] = found
        return placed


def _each(audio: Sequence[Audio], features: Callable[[Audio], np.ndarray]) -> list[np.ndarray]:
    """Return the features of recordings; an error names its recording."""
    found = []
    for number, one in enumerate(audio):
        try:
            found.append(features(one))
        except AudioError as error:
            name = one if isinstance(one, (str, Path)) else f"recording {number}"
            raise AudioError(f"{name}: {error}") from None
    return found


def _session(package: Package, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # waiting threads that spin would take cores from other processes
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(package.graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common base class for errors
        raise UserError(f"{package.graph}: ONNX Runtime cannot load it ({type(error).__name__}).") from error


def _check_graph(package: Package, session: onnxruntime.InferenceSession) -> None:
    columns = {one.name: one.shape[-1] for one in [*session.get_inputs(), *session.get_outputs()]}
    expected = {"frames": len(names(package.description.features)), "logits": len(package.labels)}
    for name, count in expected.items():
        if columns.get(name) != count:
            raise UserError(
                f"{package.graph}: {name!r} has {columns.get(name)} columns where package.json requires {count}: "
                "labels and features do not match the network. Build the package again with `dvc repro`."
            )


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the indices of each batch: clips of similar length together, to reduce padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        # lengths ascend, so this clip is the longest, to which all are padded
        if batch and lengths[index] * (len(batch) + 1) > _BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(index)
    yield batch
