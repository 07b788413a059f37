"""Takes the frames of utterances one after the other; gives them from a file, so that no corpus must fit in memory.

Whoever goes through frames batch by batch takes a list of arrays and what is here alike, and asks `lengths_of` how long
they are: of a list it measures them, here it is known.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, overload

import numpy as np


class _OneByOne(Sequence[np.ndarray]):
    """Frames of utterances that are fetched when they are asked for; `lengths` says how many each has."""

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


class StoredFrames(_OneByOne):
    """Frames of utterances in a file that has no name, and is gone with the process, however that ends.

    Parameters
    ----------
    frames : iterable of np.ndarray [shape=(t, coefficients)], float32
        All of as many coefficients.
    folder : Path
        On whose disk the file lies.

    Attributes
    ----------
    lengths : np.ndarray [shape=(n,)], int64
        Frames of each utterance.
    """

    def __init__(self, frames: Iterable[np.ndarray], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as this
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
        """Return some of the utterances, in another order, from the same file."""
        chosen = object.__new__(type(self))
        chosen._file, chosen._coefficients = self._file, self._coefficients
        chosen.lengths, chosen._starts = self.lengths[list(indices)], self._starts[list(indices)]
        return chosen

    def _fetch(self, index: int) -> np.ndarray:
        width = self._coefficients * np.dtype(np.float32).itemsize
        held = os.pread(self._file.fileno(), int(self.lengths[index]) * width, int(self._starts[index]) * width)
        return np.frombuffer(held, np.float32).reshape(-1, self._coefficients)


class ChosenFrames(_OneByOne):
    """Utterances out of several sequences.

    Parameters
    ----------
    sources : sequence of sequence of np.ndarray [shape=(t, coefficients)]
    chosen : sequence of (int, int)
        For each utterance, the number of its source and its place there.
    """

    def __init__(self, sources: Sequence[Sequence[np.ndarray]], chosen: Sequence[tuple[int, int]]) -> None:
        self._sources, self._chosen = sources, chosen
        lengths = [lengths_of(source) for source in sources]
        self.lengths = np.array([lengths[source][index] for source, index in chosen], dtype=np.int64)

    def _fetch(self, index: int) -> np.ndarray:
        source, place = self._chosen[index]
        return self._sources[source][place]


def lengths_of(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Return how many frames each utterance has [shape=(n,)], int64, without fetching what lies in a file."""
    if isinstance(frames, _OneByOne):
        return frames.lengths
    return np.array([len(one) for one in frames], dtype=np.int64)
