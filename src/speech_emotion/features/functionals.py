"""Summarize each recording by a few numbers: the input of the simple baselines."""

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from speech_emotion.audio.decode import load
from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.progress import track
from speech_emotion.features.extract import extractor
from speech_emotion.features.mfcc import names
from speech_emotion.features.prosody import TRACKS

_LOUD_DB: Final = 40.0
"""Frames at both ends that are so far below the loudest are left out of the columns `loud_`."""


def functionals(manifest: pd.DataFrame, raw: Path, settings: FeaturizeSettings, *, workers: int | None) -> pd.DataFrame:
    """Return statistics over time of the MFCCs and prosodic tracks, beside level, peak and duration.

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
    pd.DataFrame [columns=(id, rms_dbfs, peak_dbfs, seconds, mean_mfcc_0, ..., std_mfcc_0, ..., loud_mean_mfcc_0, ...)]
        Mean and standard deviation of each MFCC; then, without silence at both ends, mean, standard deviation, 10 % and
        90 % quantiles and mean change from frame to frame of each MFCC and prosodic track.
    """
    paths = [raw / path for path in manifest["path"]]
    settings = settings.model_copy(update={"prosody": True, "trim_db": None})
    work = parallel_map(partial(_summary, settings=settings), paths, workers=workers)
    rows = np.stack(list(track(work, len(paths), "functionals", "recordings")))
    every = names(settings)
    columns = [
        *(f"{kind}_{name}" for kind in ("mean", "std") for name in every[: -len(TRACKS)]),
        *(f"loud_{kind}_{name}" for kind in ("mean", "std", "p10", "p90", "change") for name in every),
    ]
    known = manifest[["id", "rms_dbfs", "peak_dbfs", "seconds"]].reset_index(drop=True)
    return pd.concat([known, pd.DataFrame(rows, columns=columns)], axis=1)


def _summary(path: Path, *, settings: FeaturizeSettings) -> np.ndarray:
    frames = extractor(settings)(load(path, settings.sample_rate)).astype(np.float64)
    cepstra, energy = frames[:, : -len(TRACKS)], frames[:, names(settings).index("energy")]
    loud = np.flatnonzero(energy >= energy.max() - _LOUD_DB)
    kept = frames[loud[0] : loud[-1] + 1]
    low, high = np.quantile(kept, [0.1, 0.9], axis=0)
    change = np.abs(np.diff(kept, axis=0, append=kept[-1:])).mean(axis=0)
    moments = [rows for table in (cepstra, kept) for rows in (table.mean(axis=0), table.std(axis=0))]
    return np.concatenate([*moments, low, high, change])
