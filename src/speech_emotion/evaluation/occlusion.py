"""Occlusion: measure how much each piece of an utterance contributes to its prediction.

A piece is replaced by the mean frame (Zeiler and Fergus, 2014). The effect is the loss of log-odds, log p / (1 - p) in
nats, of the label that was predicted for the whole utterance; unlike a probability it tells 0.99 from 0.999.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.features.mfcc import Extractor
from speech_emotion.features.prosody import energy
from speech_emotion.inference.recognizer import Recognizer

TENTHS: Final = 10
"""Number of equal pieces of an utterance."""

EVERYTHING: Final = "all together"

_BANDS: Final = ((0, 0, "c0, energy"), (1, 4, "c1 to c4"), (5, 12, "c5 to c12"), (13, 24, "c13 to c24"))
"""Groups of MFCCs: the first hold the tilt and the formants, the others ever finer ripples of the spectrum."""

_LEAST: Final = 1e-9

_Hider: TypeAlias = Callable[[np.ndarray], Iterator[np.ndarray]]
"""Yields copies of an utterance, each with one piece hidden."""


@dataclass(frozen=True)
class Occluded:
    """Effect of hiding one piece of each utterance.

    Attributes
    ----------
    answers : np.ndarray [shape=(n,)], int
        Index of the label predicted for each whole utterance.
    lost : np.ndarray [shape=(n, pieces)]
        Loss of log-odds of that label in nats; negative where hiding the piece helps.
    changed : np.ndarray [shape=(n, pieces)], bool
        Whether the prediction changes.
    """

    answers: np.ndarray
    lost: np.ndarray
    changed: np.ndarray


def groups(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the columns of each group of features.

    Parameters
    ----------
    names : sequence of str
        From `features.mfcc.names`.

    Returns
    -------
    dict of str to np.ndarray, int
        MFCCs in bands, all deltas together, and every other track by itself; empty groups are left out.
    """
    found: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        found.setdefault(_group(name), []).append(column)
    return {name: np.array(columns) for name, columns in found.items()}


def occlude_time(
    recognizer: Recognizer, frames: Sequence[np.ndarray], nothing: np.ndarray, pieces: int = TENTHS
) -> Occluded:
    """Hide each of several equal pieces of every utterance.

    Parameters
    ----------
    recognizer : Recognizer
    frames : sequence of np.ndarray [shape=(t, coefficients)], float32
    nothing : np.ndarray [shape=(coefficients,)]
        The frame that replaces hidden frames.
    pieces : int
    """

    def hidden(one: np.ndarray) -> Iterator[np.ndarray]:
        ends = np.linspace(0, len(one), pieces + 1).round().astype(int)
        for start, end in itertools.pairwise(ends):
            yield _hide(one, slice(start, end), slice(None), nothing)

    return _occlude(recognizer, frames, hidden)


def occlude_groups(
    recognizer: Recognizer, frames: Sequence[np.ndarray], nothing: np.ndarray, columns: Mapping[str, np.ndarray]
) -> Occluded:
    """Hide each group of features in every frame; see `occlude_time` and `groups`."""

    def hidden(one: np.ndarray) -> Iterator[np.ndarray]:
        for chosen in columns.values():
            yield _hide(one, slice(None), chosen, nothing)

    return _occlude(recognizer, frames, hidden)


def occlusion_map(
    recognizer: Recognizer,
    frames: np.ndarray,
    nothing: np.ndarray,
    columns: Mapping[str, np.ndarray],
    *,
    width: int,
    step: int,
) -> np.ndarray:
    """Move a hidden window along one utterance, for each group of features and for all of them together.

    Parameters
    ----------
    recognizer : Recognizer
    frames : np.ndarray [shape=(t, coefficients)], float32
    nothing : np.ndarray [shape=(coefficients,)]
    columns : mapping of str to np.ndarray
        From `groups`.
    width, step : int
        Width of the window and distance between its positions, in frames.

    Returns
    -------
    np.ndarray [shape=(1 + groups, places)]
        Log-odds lost; the first row is all groups together. Position p is centred on frame p * step.
    """
    centres = range(0, len(frames), step)
    chosen: list[slice | np.ndarray] = [slice(None), *columns.values()]

    def hidden(one: np.ndarray) -> Iterator[np.ndarray]:
        for which in chosen:
            for centre in centres:
                yield _hide(one, slice(max(0, centre - width // 2), centre + (width + 1) // 2), which, nothing)

    return _occlude(recognizer, [frames], hidden).lost[0].reshape(len(chosen), len(centres))


def first_frame(wave: np.ndarray, settings: FeaturizeSettings) -> int:
    """Return the first frame of a waveform that `trim_db` keeps."""
    if settings.trim_db is None:
        return 0
    loud = np.flatnonzero(energy(Extractor(settings).power(wave)) >= -settings.trim_db)
    return int(loud[0])


def _occlude(recognizer: Recognizer, frames: Sequence[np.ndarray], hidden: _Hider) -> Occluded:
    whole = recognizer.predict_frames(frames)
    answers = whole.argmax(axis=1)
    lost, changed = [], []
    # one utterance at a time: all copies of a corpus would need ten times its memory
    for one, answer, probabilities in zip(frames, answers, whole, strict=True):
        left = recognizer.predict_frames(list(hidden(one)))
        lost.append(_log_odds(probabilities[answer]) - _log_odds(left[:, answer]))
        changed.append(left.argmax(axis=1) != answer)
    return Occluded(answers, np.array(lost), np.array(changed))


def _hide(frames: np.ndarray, when: slice, which: slice | np.ndarray, nothing: np.ndarray) -> np.ndarray:
    copy = frames.copy()
    copy[when, which] = nothing[which]
    return copy


def _log_odds(probability: np.ndarray) -> np.ndarray:
    kept = np.clip(probability, _LEAST, 1 - _LEAST)
    return np.log(kept / (1 - kept))


def _group(name: str) -> str:
    if not name.startswith("mfcc_"):
        return name.replace("_", " ")
    if name.endswith("_delta"):
        return "deltas"
    number = int(name.removeprefix("mfcc_"))
    for low, high, group in _BANDS:
        if low <= number <= high:
            return group
    return f"c{_BANDS[-1][1] + 1} and up"
