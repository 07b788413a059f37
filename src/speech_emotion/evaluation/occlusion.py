"""Occlusion: measure how much each piece of an utterance contributes to its prediction.

A piece is replaced by the mean frame (Zeiler and Fergus, 2014). The effect is the loss of log-odds, log p / (1 - p) in
nats, of the label that was predicted for the whole utterance. Unlike a probability, log-odds distinguish 0.99 from
0.999.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from speech_emotion.inference.recognizer import Recognizer

TENTHS: Final = 10
"""Number of equal pieces of an utterance."""

_BANDS: Final = ((0, "c0, energy"), (4, "c1 to c4"), (12, "c5 to c12"), (24, "c13 to c24"))
"""Groups of MFCCs with their last coefficient, from the tilt of the spectrum and the formants to its fine structure."""

_LEAST: Final = 1e-9

_Piece: TypeAlias = tuple[slice, slice | np.ndarray]
"""Frames and columns of what is hidden."""


@dataclass(frozen=True)
class Occluded:
    """Effect of hiding each of several pieces of each utterance."""

    predicted: np.ndarray
    """Index of the label predicted for each whole utterance [shape=(n,)], int."""
    lost: np.ndarray
    """Loss of log-odds of that label in nats [shape=(n, pieces)]; negative where hiding the piece helps."""
    changed: np.ndarray
    """Whether the prediction changes [shape=(n, pieces)], bool."""


def groups(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the columns of each group of features: MFCCs in bands, all deltas together, every other track alone."""
    found: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        found.setdefault(_group(name), []).append(column)
    return {name: np.array(columns) for name, columns in found.items()}


def occlude_time(recognizer: Recognizer, frames: Sequence[np.ndarray], mean_frame: np.ndarray) -> Occluded:
    """Hide each tenth of every utterance.

    Parameters
    ----------
    recognizer : Recognizer
    frames : sequence of np.ndarray [shape=(t, coefficients)], float32
    mean_frame : np.ndarray [shape=(coefficients,)]
        The frame that replaces hidden frames.
    """

    def tenths(length: int) -> list[_Piece]:
        ends = np.linspace(0, length, TENTHS + 1).round().astype(int)
        return [(slice(start, end), slice(None)) for start, end in itertools.pairwise(ends)]

    return _occlude(recognizer, frames, mean_frame, tenths)


def occlude_groups(
    recognizer: Recognizer, frames: Sequence[np.ndarray], mean_frame: np.ndarray, columns: Mapping[str, np.ndarray]
) -> Occluded:
    """Hide each group of features in every frame; see `occlude_time` and `groups`."""
    return _occlude(recognizer, frames, mean_frame, lambda _: [(slice(None), chosen) for chosen in columns.values()])


def _occlude(
    recognizer: Recognizer,
    frames: Sequence[np.ndarray],
    mean_frame: np.ndarray,
    pieces: Callable[[int], list[_Piece]],
) -> Occluded:
    whole = recognizer.predict_frames(frames)
    predicted = whole.argmax(axis=1)
    lost, changed = [], []
    # one utterance at a time: the copies of a whole corpus would need ten times its memory
    for one, label, probabilities in zip(frames, predicted, whole, strict=True):
        copies = []
        for time, columns in pieces(len(one)):
            copy = one.copy()
            copy[time, columns] = mean_frame[columns]
            copies.append(copy)
        left = recognizer.predict_frames(copies)
        lost.append(_log_odds(probabilities[label]) - _log_odds(left[:, label]))
        changed.append(left.argmax(axis=1) != label)
    return Occluded(predicted, np.array(lost), np.array(changed))


def _log_odds(probability: np.ndarray) -> np.ndarray:
    kept = np.clip(probability, _LEAST, 1 - _LEAST)
    return np.log(kept / (1 - kept))


def _group(name: str) -> str:
    if not name.startswith("mfcc_"):
        return name.replace("_", " ")
    if name.endswith("_delta"):
        return "deltas"
    number = int(name.removeprefix("mfcc_"))
    return next((group for last, group in _BANDS if number <= last), f"c{_BANDS[-1][0] + 1} and up")
