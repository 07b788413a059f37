"""Takes a fold, and the package that was trained on it; gives one message where the test part has leaked into either.

`splits` refuses to make a split that leaks. Here the files themselves are looked at again, at the moment when the
model is judged: a split that was edited by hand, and what the package knows of recordings beside its weights.
"""

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
"""In deviations of a coefficient; sums in another order differ by far less, those over another speaker by far more."""


def check_folds(folds: Sequence[Fold], manifest: pd.DataFrame, protocol: Protocol) -> None:
    """Hold a split, as its file says it, against what its protocol promises; see `splits.check`.

    Raises
    ------
    LeakError
        An utterance, a text or a speaker is on two sides; names it.
    UserError
        The split is not one of this manifest.
    """
    rows = [
        (fold.name, name, part)
        for fold in folds
        for part, ids in ((TRAIN, fold.train), (VALIDATION, fold.validation), (TEST, fold.test))
        for name in ids
    ]
    splits.check(pd.DataFrame(rows, columns=splits.COLUMNS), manifest, protocol)


def check_normalization(package: Package, frames: Sequence[np.ndarray]) -> None:
    """Hold a package's normalisation against the training part alone.

    Parameters
    ----------
    package : Package
    frames : sequence of np.ndarray [shape=(t, coefficients)]
        The recorded utterances of the fold's training part.

    Raises
    ------
    LeakError
        Means and deviations are those of other utterances; names the coefficient that is farthest off.
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
            f"{package.folder / NORMALIZATION}: leak: normalization: coefficient {int(off.argmax())} is not that of "
            f"the training part of protocol '{described.protocol}', fold '{described.fold}', alone, but off by "
            f"{off.max():.3g} deviations. Train it again: `dvc repro --force train@{described.protocol}`."
        )
