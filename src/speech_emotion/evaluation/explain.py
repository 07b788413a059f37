"""Explain the packaged model: what each group of features contributes, and the most confident errors.

A group of features is hidden by the mean frame in its place (occlusion; Zeiler and Fergus, 2014). Its contribution is
the loss of log-odds, log p / (1 - p) in nats, of the label that was predicted from all features. Unlike a probability,
log-odds distinguish 0.99 from 0.999.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import seaborn
from scipy.special import logit
from threadpoolctl import threadpool_limits

from speech_emotion.config.evaluation import ExplainSettings
from speech_emotion.core.io import replacing, replacing_folder
from speech_emotion.data.splits import VALIDATION
from speech_emotion.evaluation.plots import drawing, words
from speech_emotion.features.mfcc import names
from speech_emotion.inference.recognizer import Recognizer

ERRORS_LISTED: Final = 25
"""Per protocol."""

ERROR_COLUMNS: Final = ["protocol", "fold", "id", "speaker", "text", "emotion", "prediction", "confidence", "p_emotion"]

_BANDS: Final = ((0, "c0, energy"), (4, "c1 to c4"), (12, "c5 to c12"), (24, "c13 to c24"))
"""Groups of MFCCs with their last coefficient, from the tilt of the spectrum and the formants to its fine structure."""

_LEAST: Final = 1e-9


def explain(
    target: Path,
    *,
    recordings: pd.DataFrame,
    raw: Path,
    package: Path,
    predictions: Mapping[str, pd.DataFrame],
    settings: ExplainSettings,
) -> None:
    """Write `occlusion.csv`, `occlusion.png` and `errors.csv` to the folder `target`.

    Parameters
    ----------
    recordings : pd.DataFrame [columns=(id, path, speaker, emotion, text, part, ...)]
        From audio_stats.csv. Validation utterances of `full` are explained, from the recordings in `raw`.
    predictions : mapping of str to pd.DataFrame
        predictions.csv of each protocol with a test part.
    """
    recognizer = Recognizer.load(package)
    # the bits of a matrix product depend on the number of threads
    with replacing_folder(target) as folder, threadpool_limits(limits=1):
        frames = [recognizer.frames(raw / path) for path in sample(recordings, settings)["path"]]
        table = occlusion(recognizer, frames)
        _write(folder / "occlusion.csv", table)
        _write(folder / "errors.csv", errors(predictions))
        draw_occlusion(folder / "occlusion.png", table, recognizer.labels)


def sample(recordings: pd.DataFrame, settings: ExplainSettings) -> pd.DataFrame:
    """Return at most `settings.utterances` validation utterances of each emotion and speaker, sorted by id."""
    rng = np.random.default_rng(settings.seed)
    rows = recordings[recordings["part"] == VALIDATION].sort_values("id")
    chosen = {
        name
        for _, part in rows.groupby(["speaker", "emotion"], sort=True)
        for name in rng.permutation(part["id"].to_numpy())[: settings.utterances]
    }
    return rows[rows["id"].isin(chosen)].reset_index(drop=True)


def groups(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the columns of each group of features: MFCCs in bands, all deltas together, every other track alone."""
    found: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        found.setdefault(_group(name), []).append(column)
    return {name: np.array(columns) for name, columns in found.items()}


def occlusion(recognizer: Recognizer, frames: Sequence[np.ndarray]) -> pd.DataFrame:
    """Return what each group of features contributes, by predicted emotion.

    Returns
    -------
    pd.DataFrame [columns=(group, emotion, utterances, log_odds, changed)]
        `log_odds` is the mean loss of log-odds when the group is hidden, negative where that helps; `changed` the share
        of predictions that change.
    """
    columns = groups(names(recognizer.package.description.features))
    mean_frame = np.concatenate(frames).mean(axis=0, dtype=np.float64).astype(np.float32)
    whole = recognizer.predict_frames(frames)
    predicted = whole.argmax(axis=1)
    lost, changed = [], []
    # one utterance at a time: the copies of a whole corpus would need ten times its memory
    for one, label, probabilities in zip(frames, predicted, whole, strict=True):
        copies = [one.copy() for _ in columns]
        for copy, hidden in zip(copies, columns.values(), strict=True):
            copy[:, hidden] = mean_frame[hidden]
        left = recognizer.predict_frames(copies)
        lost.append(_log_odds(probabilities[label]) - _log_odds(left[:, label]))
        changed.append(left.argmax(axis=1) != label)
    tables = [
        pd.DataFrame(
            {
                "group": list(columns),
                "emotion": recognizer.labels[label],
                "utterances": int(own.sum()),
                "log_odds": np.array(lost)[own].mean(axis=0),
                "changed": np.array(changed)[own].mean(axis=0),
            }
        )
        for label in np.unique(predicted)
        for own in [predicted == label]
    ]
    return pd.concat(tables, ignore_index=True)


def errors(predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the most confident errors of each protocol's test part [columns=ERROR_COLUMNS]."""
    found = []
    for protocol, rows in predictions.items():
        wrong = rows[rows["emotion"] != rows["prediction"]]
        own = [float(row[f"p_{row['emotion']}"]) for _, row in wrong.iterrows()]
        wrong = wrong.assign(protocol=protocol, p_emotion=own)
        found.append(wrong.sort_values(["confidence", "id"], ascending=[False, True]).head(ERRORS_LISTED))
    return pd.concat(found)[ERROR_COLUMNS] if found else pd.DataFrame(columns=ERROR_COLUMNS)


def draw_occlusion(path: Path, table: pd.DataFrame, labels: Sequence[str]) -> None:
    """Draw the table of `occlusion`. Red: the hidden group supported the prediction; blue: it opposed it."""
    values = table.pivot(index="emotion", columns="group", values="log_odds")
    values = values.reindex(index=list(labels), columns=list(dict.fromkeys(table["group"])))
    high = float(table["log_odds"].abs().max()) or 1.0
    counts = table.drop_duplicates("emotion").set_index("emotion")["utterances"]
    with drawing(path, width=8.0, height=0.36 * len(labels) + 2.1) as figure:
        figure.suptitle("Loss of confidence when a group of features is hidden")
        axes = figure.subplots()
        seaborn.heatmap(
            values.round(1) + 0.0,
            annot=True,
            fmt=".1f",
            cmap="RdBu_r",
            vmin=-high,
            vmax=high,
            cbar_kws={"label": "log-odds lost (nats)"},
            ax=axes,
        )
        axes.set_facecolor("#cccccc")
        axes.grid(visible=False)
        axes.set_yticks(axes.get_yticks(), [f"{words(one)} ({counts.get(one, 0)})" for one in labels], rotation=0)
        axes.set_xticks(axes.get_xticks(), list(values.columns), rotation=35, ha="right")
        axes.set(xlabel="hidden group of features", ylabel="predicted (utterances)")


def _log_odds(probability: np.ndarray) -> np.ndarray:
    return logit(np.clip(probability, _LEAST, 1 - _LEAST))


def _group(name: str) -> str:
    if not name.startswith("mfcc_"):
        return name.replace("_", " ")
    if name.endswith("_delta"):
        return "deltas"
    number = int(name.removeprefix("mfcc_"))
    return next((group for last, group in _BANDS if number <= last), f"c{_BANDS[-1][0] + 1} and up")


def _write(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", float_format="%.4f")
