"""Summarize each recording by a few numbers: the input of the simple baselines."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from speech_emotion.audio.decode import load
from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.progress import track
from speech_emotion.features.extract import extractor


def functionals(manifest: pd.DataFrame, raw: Path, settings: FeaturizeSettings, *, workers: int | None) -> pd.DataFrame:
    """Return the mean and standard deviation over time of each MFCC, beside level, peak and duration.

    Parameters
    ----------
    manifest : pd.DataFrame
    raw : Path
        The folder of recordings.
    settings : FeaturizeSettings
        Of the MFCCs: those of the reference model.
    workers : int or None

    Returns
    -------
    pd.DataFrame [columns=(id, rms_dbfs, peak_dbfs, seconds, mean_1, ..., std_1, ...)]
    """
    paths = [raw / path for path in manifest["path"]]
    work = parallel_map(partial(_summary, settings=settings), paths, workers=workers)
    rows = np.stack(list(track(work, len(paths), "functionals", "recordings")))
    count = rows.shape[1] // 2
    columns = [f"{kind}_{number}" for kind in ("mean", "std") for number in range(1, count + 1)]
    known = manifest[["id", "rms_dbfs", "peak_dbfs", "seconds"]].reset_index(drop=True)
    return pd.concat([known, pd.DataFrame(rows, columns=columns)], axis=1)


def _summary(path: Path, *, settings: FeaturizeSettings) -> np.ndarray:
    frames = extractor(settings)(load(path, settings.sample_rate)).astype(np.float64)
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])
