"""Takes a recogniser and the frames of utterances; gives how much each answer rests on each piece of them.

A piece is hidden by putting the mean frame of the corpus in its place (Zeiler and Fergus, 2014). What then is missing
is told in log-odds of the answer that the model gave to the whole utterance, right or wrong: log p / (1 - p), in nats,
which tell 0.99 from 0.999, and not only in changed answers.
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
"""Pieces that an utterance is cut into, whatever its length."""

EVERYTHING: Final = "all together"

_BANDS: Final = ((0, 0, "c0, energy"), (1, 4, "c1 to c4"), (5, 12, "c5 to c12"), (13, 24, "c13 to c24"))
"""Of MFCCs: the few that draw the spectrum's tilt and the formants, and the many that draw ever finer ripples."""

_LEAST: Final = 1e-9

_Hider: TypeAlias = Callable[[np.ndarray], Iterator[np.ndarray]]
"""Yields copies of an utterance, each with a piece hidden."""


@dataclass(frozen=True)
class Occluded:
    """What is left of the answers to utterances when one piece of each is hidden.

    Attributes
    ----------
    answers : np.ndarray [shape=(n,)], int
        Index of the label that was answered to each whole utterance.
    lost : np.ndarray [shape=(n, pieces)]
        Log-odds of that label that the hidden piece had carried, in nats; below 0 where hiding it helps.
    changed : np.ndarray [shape=(n, pieces)], bool
        Whether another label is answered then.
    """

    answers: np.ndarray
    lost: np.ndarray
    changed: np.ndarray


def groups(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the columns of each group of features.

    Parameters
    ----------
    names : sequence of str
        What each number of a frame is, as `mfcc.names` gives them.

    Returns
    -------
    dict of str to np.ndarray, int
        MFCCs in bands, their slopes together, and every other track by itself; groups without a column are left out.
    """
    found: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        found.setdefault(_group(name), []).append(column)
    return {name: np.array(columns) for name, columns in found.items()}


def singles(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the column of each feature by itself; takes what `groups` does. Cepstra are called c0, c1 and so on."""
    return {_single(name): np.array([column]) for column, name in enumerate(names)}


def occlude_time(
    recognizer: Recognizer, frames: Sequence[np.ndarray], nothing: np.ndarray, pieces: int = TENTHS
) -> Occluded:
    """Hide each of a number of equal stretches of every utterance.

    Parameters
    ----------
    recognizer : Recognizer
    frames : sequence of np.ndarray [shape=(t, coefficients)], float32
    nothing : np.ndarray [shape=(coefficients,)]
        The frame that takes the place of what is hidden.
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
    """Hide each group of features throughout every utterance; takes what `occlude_time` does, and groups."""

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
    """Hide a window that moves along one utterance, in each group of features and in all of them together.

    Parameters
    ----------
    recognizer : Recognizer
    frames : np.ndarray [shape=(t, coefficients)], float32
    nothing : np.ndarray [shape=(coefficients,)]
    columns : mapping of str to np.ndarray
        As `groups` gives them.
    width, step : int
        Of the window and between two of its places, in frames.

    Returns
    -------
    np.ndarray [shape=(1 + groups, places)]
        Log-odds lost; the first row is all groups together. The place p is centred on frame p * step.
    """
    centres = range(0, len(frames), step)
    chosen: list[slice | np.ndarray] = [slice(None), *columns.values()]

    def hidden(one: np.ndarray) -> Iterator[np.ndarray]:
        for which in chosen:
            for centre in centres:
                yield _hide(one, slice(max(0, centre - width // 2), centre + (width + 1) // 2), which, nothing)

    return _occlude(recognizer, [frames], hidden).lost[0].reshape(len(chosen), len(centres))


def first_frame(wave: np.ndarray, settings: FeaturizeSettings) -> int:
    """Return which frame of a wave is the first that its features have: what is silent before it is left out."""
    if settings.trim_db is None:
        return 0
    loud = np.flatnonzero(energy(Extractor(settings).power(wave)) >= -settings.trim_db)
    return int(loud[0])


def _occlude(recognizer: Recognizer, frames: Sequence[np.ndarray], hidden: _Hider) -> Occluded:
    whole = recognizer.predict_frames(frames)
    answers = whole.argmax(axis=1)
    lost, changed = [], []
    # utterance by utterance: all copies of a corpus at once would be ten times the corpus
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


def _single(name: str) -> str:
    if not name.startswith("mfcc_"):
        return name.replace("_", " ")
    number, _, slope = name.removeprefix("mfcc_").partition("_")
    return f"c{number} {slope}".rstrip()


def _group(name: str) -> str:
    if not name.startswith("mfcc_"):
        return name.replace("_", " ")
    if name.endswith("_delta"):
        return "slopes (deltas)"
    number = int(name.removeprefix("mfcc_"))
    for low, high, group in _BANDS:
        if low <= number <= high:
            return group
    return f"c{_BANDS[-1][1] + 1} and up"
