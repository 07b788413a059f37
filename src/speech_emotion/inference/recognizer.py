"""Takes a model package and audio; gives the probability of each emotion: the one way to a prediction.

Neither TensorFlow, MLflow nor librosa is imported: the network is an ONNX graph, and a clip of two seconds is answered
in one to two milliseconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeAlias

import numpy as np
import onnxruntime

from speech_emotion.audio.decode import AudioError, Sound, decode, from_array
from speech_emotion.core.errors import UserError
from speech_emotion.features.frames import lengths_of
from speech_emotion.features.mfcc import Extractor
from speech_emotion.models.package import Package

Audio: TypeAlias = "str | Path | bytes | np.ndarray"
"""A path to a recording, the bytes of one, or samples (n,) or (n, channels), which need a sample rate."""

SILENCE_DBFS: Final = -80.0
"""Audio that never rises above this level is refused: it is 3 steps of 16-bit audio, which no voice is.

A classifier would answer all the same, with whichever emotion its silence resembles.
"""

_BATCH_FRAMES: Final = 16_384
"""Frames of a batch, padding included: large enough that a core works at full speed, a few MB in memory."""


@dataclass(frozen=True)
class Prediction:
    """The answer to one recording.

    Attributes
    ----------
    label : str
        The most probable emotion.
    confidence : float
        Its probability.
    probabilities : mapping of str to float
        Of every label, in the package's order; they sum to 1.
    sure : bool
        Whether the confidence reaches the package's threshold; where it does not, "not sure" is the better answer.
    """

    label: str
    confidence: float
    probabilities: Mapping[str, float]
    sure: bool = True


class Recognizer:
    """A model that is ready to answer, to any number of threads at once.

    Parameters
    ----------
    package : Package
        The model.
    threads : int
        Threads of ONNX Runtime for one batch. One gives the same bits on any machine of a kind, and leaves the other
        cores to other recordings.

    Raises
    ------
    UserError
        The package's graph cannot be loaded.

    Examples
    --------
    >>> import speech_emotion
    >>> recognizer = speech_emotion.load()  # doctest: +SKIP
    >>> recognizer.predict("clip.wav").label  # doctest: +SKIP
    'happy'
    """

    def __init__(self, package: Package, *, threads: int = 1) -> None:
        self.package = package
        self._extractor = Extractor(package.description.features)
        self._session = _session(package, threads)

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 1) -> Self:
        """Load the package in a folder; see `Package.load` for the mistakes that are found."""
        return cls(Package.load(folder), threads=threads)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of `predict_frames`."""
        return self.package.labels

    def predict(self, audio: Audio, sample_rate: int | None = None) -> Prediction:
        """Answer one recording.

        Parameters
        ----------
        audio : str, Path, bytes or np.ndarray [shape=(n,) or (n, channels)]
            A path, a recording's bytes, or samples: floats of full scale -1 to 1, or integers of their type's.
        sample_rate : int, optional
            Hz; for samples, and for them alone.

        Raises
        ------
        AudioError
            The recording cannot be used: not audio, damaged, silent, shorter or longer than the package's limits.
        UserError
            A sample rate is missing, or given for what has its own.
        """
        return self.answers(self.predict_frames([self.frames(audio, sample_rate)]))[0]

    def predict_batch(self, audio: Sequence[Audio], sample_rate: int | None = None) -> list[Prediction]:
        """Answer many recordings; each as `predict` would, within 1e-5.

        Raises
        ------
        AudioError, UserError
            As `predict` does, for the first recording that cannot be used; the message says which.
        """
        frames = []
        for number, one in enumerate(audio):
            try:
                frames.append(self.frames(one, sample_rate))
            except AudioError as error:
                name = one if isinstance(one, (str, Path)) else f"recording {number}"
                raise AudioError(f"{name}: {error}") from None
        return self.answers(self.predict_frames(frames))

    def frames(self, audio: Audio, sample_rate: int | None = None) -> np.ndarray:
        """Return a recording's features [shape=(t, coefficients)], float32; takes and raises what `predict` does."""
        sound = self._sound(audio, sample_rate)
        self._check(sound)
        return self._extractor(sound.mono(self.package.description.features.sample_rate))

    def predict_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities of utterances whose features are known.

        Parameters
        ----------
        frames : sequence of np.ndarray [shape=(t, coefficients)], float32

        Returns
        -------
        np.ndarray [shape=(n, labels)], float64
            Softmax of the logits divided by the package's temperature; a row an utterance, in their order.
        """
        scaled = self._run("logits", frames).astype(np.float64) / self.package.description.temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def answers(self, probabilities: np.ndarray) -> list[Prediction]:
        """Return what `predict_frames` gave [shape=(n, labels)] as predictions."""
        rejection = self.package.description.rejection
        threshold = rejection.threshold if rejection else 0.0
        return [
            Prediction(
                self.labels[best],
                float(row[best]),
                dict(zip(self.labels, row.tolist(), strict=True)),
                sure=bool(row[best] >= threshold),
            )
            for row, best in zip(probabilities, probabilities.argmax(axis=1), strict=True)
        ]

    def embed_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Return what the last layer sees of each utterance [shape=(n, units)], float32; see `predict_frames`."""
        return self._run("embedding", frames)

    def _sound(self, audio: Audio, sample_rate: int | None) -> Sound:
        longest = self.package.description.limits.max_seconds
        if isinstance(audio, np.ndarray):
            if sample_rate is None:
                raise UserError("samples need their sample rate: predict(samples, sample_rate=16000)")
            return from_array(audio, sample_rate, max_seconds=longest)
        if not isinstance(audio, (str, Path, bytes)):
            raise UserError(f"audio is a path, bytes or an array of samples, found {type(audio).__name__}")
        if sample_rate is not None:
            raise UserError("a sample rate belongs to samples; a recording in a file says its own")
        return decode(audio, max_seconds=longest)

    def _check(self, sound: Sound) -> None:
        shortest = self.package.description.limits.min_seconds
        if sound.seconds < shortest:
            raise AudioError(f"is shorter than {shortest:g} s ({sound.seconds:.3f} s)")
        if sound.peak < 10 ** (SILENCE_DBFS / 20):
            raise AudioError(f"is silent (never louder than {SILENCE_DBFS:g} dBFS)")

    def _run(self, output: str, frames: Sequence[np.ndarray]) -> np.ndarray:
        if not frames:
            return np.zeros((0, len(self.labels) if output == "logits" else 0), np.float32)
        rows: list[np.ndarray] = []
        order: list[int] = []
        for chosen in _batches(lengths_of(frames).tolist()):
            padded, lengths = _pad([frames[index] for index in chosen])
            rows.append(self._session.run([output], {"frames": padded, "lengths": lengths})[0])
            order += chosen
        found = np.concatenate(rows)
        placed = np.empty_like(found)
        placed[order] = found
        return placed


def _session(package: Package, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # a thread that spins while it waits for the next clip takes a core from whoever else serves
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(package.graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class an error code and no base of its own
        raise UserError(f"{package.graph}: ONNX Runtime cannot load it ({type(error).__name__}).") from error


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the indices of each batch: clips of like length together, so that little is padded."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        # sorted upward, the newest is the longest, to which all are padded
        if batch and lengths[index] * (len(batch) + 1) > _BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _pad(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return utterances as one array (n, longest, coefficients), zero padded, and their lengths (n,) int32."""
    lengths = np.array([len(one) for one in frames], dtype=np.int32)
    padded = np.zeros((len(frames), lengths.max(), frames[0].shape[1]), dtype=np.float32)
    for row, one in zip(padded, frames, strict=True):
        row[: len(one)] = one
    return padded, lengths
