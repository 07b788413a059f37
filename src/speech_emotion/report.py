"""Takes the packages of a protocol's folds; gives the folder of metrics, predictions and pictures that judges them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from speech_emotion import figures
from speech_emotion.bootstrap import Interval, Predictions, intervals
from speech_emotion.evaluation import HEADLINES, confusion, mean_of, metrics
from speech_emotion.files import replacing, replacing_folder, write_json
from speech_emotion.inference import Recognizer
from speech_emotion.settings.evaluate import EvaluateSettings
from speech_emotion.splits import TEST, VALIDATION, Fold
from speech_emotion.store import FeatureStore

METRICS: Final = "metrics.json"
SCORES: Final = "scores.json"
"""The headline metrics alone: what `dvc metrics show` puts in a table that a screen holds."""
PREDICTIONS: Final = "predictions.csv"
CURVES: Final = "curves.csv"
CONFUSION: Final = "confusion.csv"


def judged_part(protocol: str) -> str:
    """Return the part that a protocol is judged on: the test part, or validation where all else trains (`full`)."""
    return VALIDATION if protocol == "full" else TEST


def evaluate_folds(
    folds: list[Fold],
    *,
    protocol: str,
    models: Path,
    manifest: pd.DataFrame,
    store: FeatureStore,
    settings: EvaluateSettings,
    target: Path,
) -> dict[str, Any]:
    """Score every fold's package on its own judged part and write the protocol's report.

    Parameters
    ----------
    folds : list of Fold
    protocol : str
    models : Path
        Holds a package a fold, by the fold's name.
    manifest : pd.DataFrame
    store : FeatureStore
    settings : EvaluateSettings
    target : Path
        The folder to make: `metrics.json`, `scores.json`, `predictions.csv`, `confusion.csv`, `curves.csv`, pictures.

    Returns
    -------
    dict
        The content of metrics.json: metrics by fold and their mean.
    """
    predictions = {fold.name: _predict(fold, protocol, models / fold.name, manifest, store) for fold in folds}
    labels = Recognizer.load(models / folds[0].name).labels
    summary = summarize(predictions, labels, settings) | {"protocol": protocol, "part": judged_part(protocol)}
    history = pd.concat(
        [pd.read_csv(models / fold.name / "history.csv").assign(fold=fold.name) for fold in folds], ignore_index=True
    )
    with replacing_folder(target) as aside:
        write_json(aside / METRICS, summary)
        write_json(aside / SCORES, {name: summary["mean"][name] for name in HEADLINES})
        _write_csv(aside / PREDICTIONS, pd.concat(predictions.values(), ignore_index=True))
        pairs = pd.concat(predictions.values())[["emotion", "prediction"]]
        _write_csv(aside / CONFUSION, pairs.rename(columns={"emotion": "actual", "prediction": "predicted"}))
        _write_csv(aside / CURVES, history)
        draw(aside, summary, predictions, history, labels)
    return summary


def summarize(
    predictions: Mapping[str, pd.DataFrame], labels: tuple[str, ...], settings: EvaluateSettings
) -> dict[str, Any]:
    """Return the metrics of each fold and their mean, each with the 95 % interval of a bootstrap over words."""
    folds = {name: as_predictions(rows, labels) for name, rows in predictions.items()}
    bootstrap = settings.bootstrap

    def drawn(chosen: list[Predictions]) -> dict[str, Interval]:
        return intervals(chosen, bins=settings.calibration_bins, resamples=bootstrap.resamples, seed=bootstrap.seed)

    scores = {
        name: metrics(fold.truth, fold.probabilities, labels, bins=settings.calibration_bins)
        | {"interval": _as_lists(drawn([fold]))}
        for name, fold in folds.items()
    }
    mean = mean_of(list(scores.values())) | {"interval": _as_lists(drawn(list(folds.values())))}
    return rounded({"folds": scores, "mean": mean})


def as_predictions(rows: pd.DataFrame, labels: tuple[str, ...]) -> Predictions:
    """Return the rows of a predictions.csv as what the bootstrap takes; without texts, each utterance is its own."""
    index = {label: number for number, label in enumerate(labels)}
    probabilities = rows[[f"p_{label}" for label in labels]].to_numpy(dtype=np.float64)
    return Predictions(
        rows["emotion"].map(index).to_numpy(),
        # in a file they are rounded, and so their sum is not quite 1
        probabilities / probabilities.sum(axis=1, keepdims=True),
        list(rows["speaker"]),
        [text or name for text, name in zip(rows["text"], rows["id"], strict=True)],
    )


def draw(
    folder: Path,
    summary: Mapping[str, Any],
    predictions: Mapping[str, pd.DataFrame],
    history: pd.DataFrame,
    labels: tuple[str, ...],
) -> None:
    """Draw a protocol's confusion matrices and training curves."""
    index = {label: number for number, label in enumerate(labels)}
    counts = {
        name: confusion(rows["emotion"].map(index).to_numpy(), rows["prediction"].map(index).to_numpy(), len(labels))
        for name, rows in predictions.items()
    }
    title = f"{summary['protocol']} split, {summary['part']} part: UAR {summary['mean']['uar']:.3f}"
    figures.confusion_matrices(folder / "confusion.png", counts, labels, title=title)
    figures.training_curves(folder / "curves.png", history, title=f"{summary['protocol']} split: training")


def _predict(fold: Fold, protocol: str, package: Path, manifest: pd.DataFrame, store: FeatureStore) -> pd.DataFrame:
    """Return one row an utterance: what it is, what was heard, and the probability of every label."""
    ids = list(getattr(fold, judged_part(protocol)))
    recognizer = Recognizer.load(package)
    probabilities = recognizer.predict_frames(store.read(ids))
    rows = manifest.set_index("id").loc[ids, ["speaker", "emotion", "text"]].reset_index()
    rows.insert(0, "fold", fold.name)
    rows["prediction"] = np.array(recognizer.labels)[probabilities.argmax(axis=1)]
    rows["confidence"] = probabilities.max(axis=1)
    columns = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in recognizer.labels])
    return pd.concat([rows, columns], axis=1)


def _as_lists(found: Mapping[str, Interval]) -> dict[str, list[float]]:
    return {name: [interval.low, interval.high] for name, interval in found.items()}


def rounded(values: Any) -> Any:
    """Return metrics to six decimals: what is below that is rounding, and would make files differ between machines."""
    if isinstance(values, dict):
        return {key: rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return round(values, 6) if isinstance(values, float) else values


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as aside:
        table.to_csv(aside, index=False, lineterminator="\n", float_format="%.6f")
