"""Evaluate the packages of a protocol: metrics, predictions, calibration and plots."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from speech_emotion.config.data import Protocol
from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.io import replacing_folder, write_json
from speech_emotion.core.process import SCRATCH
from speech_emotion.core.tables import read_table, write_table
from speech_emotion.data import splits
from speech_emotion.data.splits import TEST, VALIDATION, Fold, LeakError
from speech_emotion.evaluation import enrolment, plots
from speech_emotion.evaluation.bootstrap import Predictions, intervals
from speech_emotion.evaluation.metrics import mean_of, metrics, reliability, slices, uncalibrated
from speech_emotion.features.frames import lengths_of
from speech_emotion.features.store import FeatureStore
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.models.calibration import risk_coverage
from speech_emotion.models.package import NORMALIZATION, Package

METRICS: Final = "metrics.json"
PREDICTIONS: Final = "predictions.csv"

_CALIBRATED: Final = ("nll", "brier", "ece")
"""Metrics that calibration changes."""

_TOLERANCE: Final = 1e-3
"""In standard deviations. Rounding differs by far less, the statistics of another speaker by far more."""

_STEPS: Final = 100
"""Number of points of a risk-coverage curve."""


@dataclass(frozen=True)
class FoldPredictions:
    """The predictions of a fold's package on its evaluated part."""

    rows: pd.DataFrame
    """Of predictions.csv."""
    before: np.ndarray
    """Probabilities before calibration [shape=(n, labels)]."""
    threshold: float | None
    """Confidence from which an answer is given; None: always."""


@dataclass(frozen=True)
class ProtocolResult:
    """The content of metrics.json and predictions.csv, and the training history of every fold."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    history: pd.DataFrame


def evaluated_part(fold: Fold) -> str:
    """Return the part that a fold is evaluated on: test or, of `full` without test speakers, validation."""
    return TEST if fold.test else VALIDATION


def evaluate_protocol(
    split: Path, *, models: Path, store: FeatureStore, settings: EvaluateSettings, target: Path, workers: int | None = 1
) -> ProtocolResult:
    """Evaluate every fold's package on its own evaluated part and write the report of the protocol.

    Parameters
    ----------
    split : Path
        Its name without `.csv` is the protocol.
    models : Path
        Holds one package per fold, named as the fold.
    target : Path
        The folder to write: `metrics.json`, `predictions.csv`, `reliability.csv`, `risk_coverage.csv`, plots. Of a
        mix, and if the packages accept speaker profiles, also `enrolment.csv`.
    workers : int or None
        Processes that predict with references; None: one per core.

    Raises
    ------
    LeakError
        An utterance, a text or a speaker is on two sides of the split, which may have been edited by hand, or a
        package was normalized by other utterances than those of its training part.
    """
    protocol = cast(Protocol, split.stem)
    folds, utterances = splits.read(split), splits.utterances(split)
    splits.check(read_table(split, text=splits.COLUMNS), utterances, protocol)
    found = {fold.name: _predict(fold, models / fold.name, utterances, store) for fold in folds}
    labels = Recognizer.load(models / folds[0].name).labels
    summary = summarize({name: fold.rows for name, fold in found.items()}, labels, settings)
    summary |= {"protocol": protocol, "part": evaluated_part(folds[0]), "unseen": _unseen(folds, utterances)}
    _add_calibration(summary, found, labels, settings)
    by_id = utterances.set_index("id", drop=False)
    parts = [(models / fold.name, by_id.loc[list(getattr(fold, evaluated_part(fold)))]) for fold in folds]
    enrolled = enrolment.scores(parts, store, settings, workers=workers)
    history = [read_table(models / fold.name / "history.csv").assign(fold=fold.name) for fold in folds]
    result = ProtocolResult(
        summary, pd.concat([fold.rows for fold in found.values()], ignore_index=True), pd.concat(history)
    )
    if "corpus" in result.predictions:
        summary["corpora"] = by_corpus(result.predictions, enrolled, labels, settings)
    bins, curves = _reliabilities(found, labels, settings.calibration_bins), _coverages(found)
    with replacing_folder(target) as folder:
        write_json(folder / METRICS, summary)
        write_table(folder / PREDICTIONS, result.predictions)
        write_table(folder / "reliability.csv", bins)
        write_table(folder / "risk_coverage.csv", curves)
        if "corpora" in summary or enrolled["condition"].nunique() > 1:
            write_table(folder / enrolment.TABLE, enrolled)
        _draw(folder, result, labels, bins, curves)
    return result


def write_overview(results: Mapping[str, ProtocolResult], folder: Path) -> None:
    """Write metrics.json, curves.csv and confusion.csv of all protocols, for `dvc metrics` and `dvc plots`."""
    headline = {
        protocol: {name: result.metrics["mean"][name] for name in ("uar", "ece")}
        for protocol, result in results.items()
    }
    write_json(folder / METRICS, headline)
    curves = [result.history.assign(protocol=protocol) for protocol, result in results.items()]
    write_table(folder / "curves.csv", pd.concat(curves))
    pairs = [result.predictions[["emotion", "prediction"]].assign(protocol=name) for name, result in results.items()]
    columns = {"emotion": "actual", "prediction": "predicted"}
    write_table(folder / "confusion.csv", pd.concat(pairs).rename(columns=columns))


def summarize(
    predictions: Mapping[str, pd.DataFrame], labels: tuple[str, ...], settings: EvaluateSettings
) -> dict[str, Any]:
    """Return the metrics of each fold and their mean, each with a 95 % interval from `bootstrap`."""
    folds = {name: as_predictions(rows, labels) for name, rows in predictions.items()}
    scores = {
        name: metrics(fold.truth, fold.probabilities, labels, bins=settings.calibration_bins)
        | {"interval": _intervals([fold], settings), "speakers": _speakers(fold, labels, settings)}
        for name, fold in folds.items()
    }
    mean = mean_of(list(scores.values())) | {"interval": _intervals(list(folds.values()), settings)}
    return rounded({"folds": scores, "mean": mean})


def by_corpus(
    rows: pd.DataFrame, enrolled: pd.DataFrame, labels: tuple[str, ...], settings: EvaluateSettings
) -> list[dict[str, Any]]:
    """Return the results of a mix in each of its `slices`, of the predictions of all folds together.

    `scores` are those of each condition in `enrolled`, from `enrolment.scores`. The UAR of a corpus is over the labels
    that occur in it; any other answer is wrong.
    """
    by_slice = {key: own.set_index("condition") for key, own in enrolled.groupby(["corpus", "sex"])}
    found = []
    for (corpus, sex), members in slices(rows).items():
        own = rows[members]
        table = by_slice[corpus, sex].drop(columns=["corpus", "sex", "draws"])
        scores = {condition: row.dropna().to_dict() for condition, row in table.iterrows()}
        interval = _intervals([as_predictions(own, labels)], settings)
        counts = {"speakers": own["speaker"].nunique(), "utterances": len(own), "labels": own["emotion"].nunique()}
        found.append({"corpus": corpus, "sex": sex, **counts, "interval": interval, "scores": scores})
    return rounded(found)


def as_predictions(rows: pd.DataFrame, labels: tuple[str, ...]) -> Predictions:
    """Convert rows of predictions.csv for the bootstrap. An utterance without a text is a cluster of its own."""
    index = {label: number for number, label in enumerate(labels)}
    probabilities = rows[[f"p_{label}" for label in labels]].to_numpy(dtype=np.float64)
    return Predictions(
        rows["emotion"].map(index).to_numpy(),
        # rounded in the file, so their sum is not exactly 1
        probabilities / probabilities.sum(axis=1, keepdims=True),
        list(rows["speaker"]),
        [text or name for text, name in zip(rows["text"], rows["id"], strict=True)],
    )


def rounded(values: Any) -> Any:
    """Round metrics to six decimals, so that files do not differ between machines."""
    if isinstance(values, dict):
        return {key: rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return round(values, 6) if isinstance(values, float) else values


def _predict(fold: Fold, package: Path, utterances: pd.DataFrame, store: FeatureStore) -> FoldPredictions:
    """Predict the evaluated part of a fold."""
    ids = list(getattr(fold, evaluated_part(fold)))
    recognizer = Recognizer.load(package)
    description = recognizer.package.description
    store = store.narrowed(description.features)
    _check_normalization(recognizer.package, store.read(fold.train, scratch=SCRATCH))
    probabilities = recognizer.predict_frames(store.read(ids, scratch=SCRATCH))
    before = uncalibrated(probabilities, description.temperature)
    threshold = description.rejection.threshold if description.rejection else None
    mixed = ["corpus", "sex"] if (utterances["corpus"] != "").any() else []
    rows = utterances.set_index("id").loc[ids, [*mixed, "speaker", "emotion", "text"]].reset_index()
    rows.insert(0, "fold", fold.name)
    rows["prediction"] = np.array(recognizer.labels)[probabilities.argmax(axis=1)]
    rows["confidence"] = probabilities.max(axis=1)
    rows["uncalibrated"] = before.max(axis=1)
    rows["sure"] = rows["confidence"] >= (threshold or 0.0)
    columns = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in recognizer.labels])
    return FoldPredictions(pd.concat([rows, columns], axis=1), before, threshold)


def _check_normalization(package: Package, frames: Sequence[np.ndarray]) -> None:
    """Raise a LeakError unless a package's normalization was computed on these frames, of the training part."""
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


def _unseen(folds: Sequence[Fold], utterances: pd.DataFrame) -> dict[str, float | None]:
    """Return the share of evaluated utterances whose speaker, or text, is in no training part; None: unknown."""
    by_id = utterances.set_index("id")
    shares: dict[str, float | None] = {}
    for column in ("speaker", "text"):
        unseen = [
            ~by_id.loc[list(getattr(fold, evaluated_part(fold))), column].isin(by_id.loc[list(fold.train), column])
            for fold in folds
        ]
        shares[column] = float(pd.concat(unseen).mean()) if (by_id[column] != "").all() else None
    return rounded(shares)


def _intervals(folds: Sequence[Predictions], settings: EvaluateSettings) -> dict[str, list[float | None]]:
    return {name: interval.as_list() for name, interval in intervals(folds, settings=settings).items()}


def _speakers(fold: Predictions, labels: tuple[str, ...], settings: EvaluateSettings) -> dict[str, Any]:
    """Return the number of utterances, UAR and recalls of each speaker of a fold."""
    speakers, found = np.array(fold.speakers), {}
    for speaker in sorted(set(fold.speakers) - {""}):
        own = speakers == speaker
        scores = metrics(fold.truth[own], fold.probabilities[own], labels, bins=settings.calibration_bins)
        found[speaker] = {name: scores[name] for name in ("uar", "recall", "utterances")}
    return found


def _add_calibration(
    summary: dict[str, Any], found: Mapping[str, FoldPredictions], labels: tuple[str, ...], settings: EvaluateSettings
) -> None:
    """Add the metrics before calibration, and the coverage and risk at the threshold, to each fold and the mean."""
    before = {name: replace(as_predictions(one.rows, labels), probabilities=one.before) for name, one in found.items()}
    places = [(summary["folds"][name], [name]) for name in found] + [(summary["mean"], list(found))]
    for place, members in places:
        folds = [before[name] for name in members]
        mean = mean_of([metrics(one.truth, one.probabilities, labels, bins=settings.calibration_bins) for one in folds])
        bounds = _intervals(folds, settings)
        place["uncalibrated"] = rounded(
            {name: mean[name] for name in _CALIBRATED} | {"interval": {name: bounds[name] for name in _CALIBRATED}}
        )
        place["rejection"] = rounded(_rejection([found[name] for name in members]))


def _rejection(found: Sequence[FoldPredictions]) -> dict[str, Any] | None:
    """Return coverage and risk at the threshold, averaged over folds; None: no package has a threshold.

    A fold without an answer above its threshold has no risk and is left out of the mean.
    """
    if any(fold.threshold is None for fold in found):
        return None
    sure = [fold.rows["sure"].to_numpy(dtype=bool) for fold in found]
    wrong = [(fold.rows["emotion"] != fold.rows["prediction"]).to_numpy() for fold in found]
    risks = [float(errors[kept].mean()) for errors, kept in zip(wrong, sure, strict=True) if kept.any()]
    return {
        "threshold": float(np.mean([fold.threshold for fold in found])),
        "coverage": float(np.mean([kept.mean() for kept in sure])),
        "risk": float(np.mean(risks)) if risks else None,
    }


def _reliabilities(found: Mapping[str, FoldPredictions], labels: tuple[str, ...], bins: int) -> pd.DataFrame:
    """Return the bins of each fold, before and after calibration."""
    tables = []
    for name, fold in found.items():
        after = as_predictions(fold.rows, labels)
        for when, probabilities in (("before", fold.before), ("after", after.probabilities)):
            found_bins = reliability(after.truth, probabilities, bins=bins)
            found_bins.insert(0, "fold", name)
            found_bins.insert(1, "calibration", when)
            tables.append(found_bins)
    return pd.concat(tables, ignore_index=True)


def _coverages(found: Mapping[str, FoldPredictions]) -> pd.DataFrame:
    """Return the risk-coverage curve of each fold, with the confidence at each point."""
    tables = []
    for name, fold in found.items():
        confidence = fold.rows["confidence"].to_numpy()
        coverage, risk = risk_coverage(confidence, (fold.rows["emotion"] == fold.rows["prediction"]).to_numpy())
        at = np.unique(np.linspace(0, len(coverage) - 1, _STEPS).round().astype(int))
        least = np.sort(confidence)[::-1][at]
        tables.append(pd.DataFrame({"fold": name, "coverage": coverage[at], "risk": risk[at], "confidence": least}))
    return pd.concat(tables, ignore_index=True)


def _draw(
    folder: Path, result: ProtocolResult, labels: tuple[str, ...], bins: pd.DataFrame, curves: pd.DataFrame
) -> None:
    summary, split = result.metrics, f"{result.metrics['protocol']} split"
    counts = {
        str(fold): confusion_matrix(rows["emotion"], rows["prediction"], labels=list(labels))
        for fold, rows in result.predictions.groupby("fold", sort=False)
    }
    found = {name: fold["rejection"] for name, fold in summary["folds"].items()}
    marks = {name: (one["coverage"], one["risk"]) for name, one in found.items() if one and one["risk"] is not None}
    title = f"{split}, {summary['part']} part: UAR {summary['mean']['uar']:.3f}"
    plots.confusion_matrices(folder / "confusion.png", counts, labels, title=title)
    plots.reliability(folder / "reliability.png", bins, title=f"{split}: reliability")
    plots.risk_coverage(folder / "risk_coverage.png", curves, marks, title=f"{split}: risk and coverage")
