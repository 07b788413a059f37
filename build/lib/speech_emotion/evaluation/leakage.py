"""Check that the test part did not leak into a split or a package."""

import json
from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from speech_emotion.config.data import Protocol
from speech_emotion.data import splits
from speech_emotion.data.splits import TEST, TRAIN, VALIDATION, Fold, LeakError
from speech_emotion.features.frames import lengths_of
from speech_emotion.models.package import NORMALIZATION, Package

_TOLERANCE: Final = 1e-3
"""In standard deviations. Rounding differs by far less, the statistics of another speaker by far more."""


def check_folds(folds: Sequence[Fold], utterances: pd.DataFrame, protocol: Protocol) -> None:
    """Check that the folds of a split keep what their protocol promises; see `splits.check`.

    A split may have been edited by hand since `splits.make` checked it.

    Raises
    ------
    LeakError
        An utterance, a text or a speaker is on two sides.
    UserError
        The split does not belong to these utterances.
    """
    rows = [
        (fold.name, name, part)
        for fold in folds
        for part, ids in ((TRAIN, fold.train), (VALIDATION, fold.validation), (TEST, fold.test))
        for name in ids
    ]
    splits.check(pd.DataFrame(rows, columns=["fold", "id", "part"]), utterances, protocol)


def check_normalization(package: Package, frames: Sequence[np.ndarray]) -> None:
    """Check that a package's normalization was computed on the training part only.

    Parameters
    ----------
    package : Package
    frames : sequence of np.ndarray [shape=(t, coefficients)]
        Features of the training part, without copies.

    Raises
    ------
    LeakError
        The statistics are those of other utterances. The message names the coefficient that differs most.
    """
    content = json.loads((package.folder / NORMALIZATION).read_text(encoding="utf-8"))
    if content["mean"] is None:
        return
    count = int(lengths_of(frames).sum())
    mean = sum(one.sum(axis=0, dtype=np.float64) for one in frames) / count
    deviation = np.sqrt(sum(((one - mean) ** 2).sum(axis=0) for one in frames) / count)
    found = np.array([content["mean"], content["deviation"]])
    off = (np.abs(found - [mean, deviation]) / (deviation + 1e-6)).max(axis=0)
    if off.max() > _TOLERANCE:
        described = package.description
        raise LeakError(
            f"{package.folder / NORMALIZATION}: leak: normalization: coefficient {int(off.argmax())} differs by "
            f"{off.max():.3g} standard deviations from that of the training part of protocol '{described.protocol}', "
            f"fold '{described.fold}'. Run `dvc repro --force train`."
        )
