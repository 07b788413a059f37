"""Sequences of utterance frames that are read from a file, so that no corpus has to fit in memory.

They can replace a list of arrays. `lengths_of` returns the number of frames of each utterance without reading them.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, overload

import numpy as np


class _LazyFrames(Sequence[np.ndarray]):
    """Frames of utterances that are read on access; `lengths` has the number of frames of each."""

    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._fetch(index) for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        chosen = range(len(self))[index]
        return self._fetch(chosen) if isinstance(chosen, int) else [self._fetch(one) for one in chosen]

    def _fetch(self, index: int) -> np.ndarray:
        raise NotImplementedError


class StoredFrames(_LazyFrames):
    """Frames of utterances in an unnamed temporary file, which disappears with the process.

    Parameters
    ----------
    frames : iterable of np.ndarray [shape=(t, coefficients)], float32
        All with the same number of coefficients.
    folder : Path
        Folder of the file.

    Attributes
    ----------
    lengths : np.ndarray [shape=(n,)], int64
        Number of frames of each utterance.
    """

    def __init__(self, frames: Iterable[np.ndarray], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as this object
        self._coefficients = 0
        lengths: list[int] = []
        for one in frames:
            self._coefficients = one.shape[1]
            self._file.write(np.ascontiguousarray(one, dtype=np.float32).data)
            lengths.append(len(one))
        self._file.flush()
        self.lengths = np.array(lengths, dtype=np.int64)
        self._starts = np.cumsum(self.lengths) - self.lengths

    def ordered(self, indices: Sequence[int]) -> Self:
        """Return a selection of the utterances, in another order, from the same file."""
        chosen = object.__new__(type(self))
        chosen._file, chosen._coefficients = self._file, self._coefficients
        chosen.lengths, chosen._starts = self.lengths[list(indices)], self._starts[list(indices)]
        return chosen

    def _fetch(self, index: int) -> np.ndarray:
        width = self._coefficients * np.dtype(np.float32).itemsize
        held = os.pread(self._file.fileno(), int(self.lengths[index]) * width, int(self._starts[index]) * width)
        return np.frombuffer(held, np.float32).reshape(-1, self._coefficients)


class ChosenFrames(_LazyFrames):
    """A selection of utterances from several sequences.

    Parameters
    ----------
    sources : sequence of sequence of np.ndarray [shape=(t, coefficients)]
    chosen : sequence of (int, int)
        Source and index in it, for each utterance.
    """

    def __init__(self, sources: Sequence[Sequence[np.ndarray]], chosen: Sequence[tuple[int, int]]) -> None:
        self._sources, self._chosen = sources, chosen
        lengths = [lengths_of(source) for source in sources]
        self.lengths = np.array([lengths[source][index] for source, index in chosen], dtype=np.int64)

    def _fetch(self, index: int) -> np.ndarray:
        source, place = self._chosen[index]
        return self._sources[source][place]


def lengths_of(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Return the number of frames of each utterance [shape=(n,)], int64, without reading frames from a file."""
    if isinstance(frames, _LazyFrames):
        return frames.lengths
    return np.array([len(one) for one in frames], dtype=np.int64)


def pad(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return utterances as one zero-padded array (n, longest, coefficients), and their lengths (n,) int32."""
    lengths = np.array([len(one) for one in frames], dtype=np.int32)
    padded = np.zeros((len(frames), lengths.max(), frames[0].shape[1]), dtype=np.float32)
    for row, one in zip(padded, frames, strict=True):
        row[: len(one)] = one
    return padded, lengths
