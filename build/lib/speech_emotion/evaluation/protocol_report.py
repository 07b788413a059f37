"""Evaluate the packages of a protocol: metrics, predictions, calibration and plots."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from speech_emotion.config.data import Protocol
from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.io import replacing, replacing_folder, write_json
from speech_emotion.core.process import SCRATCH
from speech_emotion.data import splits
from speech_emotion.data.splits import TEST, VALIDATION, Fold
from speech_emotion.evaluation import leakage, plots
from speech_emotion.evaluation.bootstrap import Interval, Predictions, intervals, share_intervals
from speech_emotion.evaluation.metrics import confusion, mean_of, metrics, reliability, uncalibrated
from speech_emotion.features.store import FeatureStore
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.models.calibration import risk_coverage

METRICS: Final = "metrics.json"
PREDICTIONS: Final = "predictions.csv"
CURVES: Final = "curves.csv"
CONFUSION: Final = "confusion.csv"
RELIABILITY: Final = "reliability.csv"
RISK_COVERAGE: Final = "risk_coverage.csv"

_CALIBRATED: Final = ("nll", "brier", "ece")
"""Metrics that calibration changes."""

_STEPS: Final = 100
"""Number of points of a risk-coverage curve."""


@dataclass(frozen=True)
class FoldPredictions:
    """The predictions of a fold's package on its evaluated part.

    Attributes
    ----------
    rows : pd.DataFrame
        Rows of predictions.csv.
    before : np.ndarray [shape=(n, labels)]
        Probabilities before calibration.
    threshold : float or None
        Confidence from which an answer is given; None: always.
    """

    rows: pd.DataFrame
    before: np.ndarray
    threshold: float | None


@dataclass(frozen=True)
class ProtocolResult:
    """What `evaluate_protocol` found.

    Attributes
    ----------
    metrics : dict
        The content of metrics.json: metrics by fold, and their mean.
    predictions : pd.DataFrame
    history : pd.DataFrame
        Training history of every fold [columns=(fold, epoch, loss, ...)].
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    history: pd.DataFrame


def evaluated_part(protocol: str) -> str:
    """Return the part that a protocol is evaluated on: test, or validation for `full`, which has no test part."""
    return VALIDATION if protocol == "full" else TEST


def evaluate_protocol(
    split: Path, *, models: Path, store: FeatureStore, settings: EvaluateSettings, target: Path
) -> ProtocolResult:
    """Evaluate every fold's package on its own test part and write the report of the protocol.

    Parameters
    ----------
    split : Path
        Its name without `.csv` is the protocol.
    models : Path
        Holds one package per fold, named as the fold.
    store : FeatureStore
    settings : EvaluateSettings
    target : Path
        The folder to write: `metrics.json`, `predictions.csv`, `reliability.csv`, `risk_coverage.csv`, plots.

    Raises
    ------
    LeakError
        The split or a package leaks; see `leakage`.
    """
    protocol = cast(Protocol, split.stem)
    folds, utterances = splits.read(split), splits.utterances(split)
    leakage.check_folds(folds, utterances, protocol)
    found = {fold.name: _predict(fold, protocol, models / fold.name, utterances, store) for fold in folds}
    predictions = {name: fold.rows for name, fold in found.items()}
    labels = Recognizer.load(models / folds[0].name).labels
    summary = summarize(predictions, labels, settings) | {"protocol": protocol, "part": evaluated_part(protocol)}
    _add_calibration(summary, found, labels, settings)
    reliabilities, coverages = _reliabilities(found, labels, settings.calibration_bins), _coverages(found)
    history = pd.concat(
        [pd.read_csv(models / fold.name / "history.csv").assign(fold=fold.name) for fold in folds], ignore_index=True
    )
    every = pd.concat(predictions.values(), ignore_index=True)
    with replacing_folder(target) as folder:
        write_json(folder / METRICS, summary)
        write_table(folder / PREDICTIONS, every)
        write_table(folder / RELIABILITY, reliabilities)
        write_table(folder / RISK_COVERAGE, coverages)
        draw(folder, summary, predictions, history, labels)
        plots.reliability(folder / "reliability.png", reliabilities, title=f"{protocol} split: reliability")
        plots.risk_coverage(
            folder / "risk_coverage.png", coverages, _marks(summary), title=f"{protocol} split: risk and coverage"
        )
    return ProtocolResult(summary, every, history)


def write_overview(results: Mapping[str, ProtocolResult], folder: Path) -> None:
    """Write one metrics.json, curves.csv and confusion.csv for all protocols: what `dvc metrics` and `dvc plots` read.

    Parameters
    ----------
    results : mapping of str to ProtocolResult
        By protocol.
    folder : Path
    """
    headline = {
        protocol: {name: result.metrics["mean"][name] for name in ("uar", "ece")}
        for protocol, result in results.items()
    }
    write_json(folder / METRICS, headline)
    curves = [result.history.assign(protocol=protocol) for protocol, result in results.items()]
    write_table(folder / CURVES, pd.concat(curves, ignore_index=True))
    pairs = [
        result.predictions[["emotion", "prediction"]].assign(protocol=protocol) for protocol, result in results.items()
    ]
    columns = {"emotion": "actual", "prediction": "predicted"}
    write_table(folder / CONFUSION, pd.concat(pairs, ignore_index=True).rename(columns=columns))


def summarize(
    predictions: Mapping[str, pd.DataFrame], labels: tuple[str, ...], settings: EvaluateSettings
) -> dict[str, Any]:
    """Return the metrics of each fold and their mean, each with a 95 % interval from a bootstrap over words."""
    folds = {name: as_predictions(rows, labels) for name, rows in predictions.items()}
    bootstrap = settings.bootstrap

    def drawn(chosen: list[Predictions]) -> dict[str, Interval]:
        return intervals(chosen, bins=settings.calibration_bins, resamples=bootstrap.resamples, seed=bootstrap.seed)

    scores = {
        name: metrics(fold.truth, fold.probabilities, labels, bins=settings.calibration_bins)
        | {"interval": _as_lists(drawn([fold])), "speakers": _speakers(fold, labels, settings)}
        for name, fold in folds.items()
    }
    mean = mean_of(list(scores.values())) | {"interval": _as_lists(drawn(list(folds.values())))}
    return rounded({"folds": scores, "mean": mean})


def recalls(fold: Predictions, labels: tuple[str, ...], settings: EvaluateSettings) -> pd.DataFrame:
    """Return the recall of each emotion, and their average, of each speaker and of all together, with intervals.

    Returns
    -------
    pd.DataFrame [columns=(speaker, emotion, utterances, recall, low, high)]
        An empty speaker is all of them, where there are several; an empty emotion is the average over emotions (UAR).
    """
    bootstrap = settings.bootstrap
    speakers = sorted(set(fold.speakers))
    rows: list[dict[str, Any]] = []
    for speaker in speakers if len(speakers) == 1 else ["", *speakers]:
        part = _of_speaker(fold, speaker) if speaker else fold
        scores = metrics(part.truth, part.probabilities, labels, bins=settings.calibration_bins)
        drawn = intervals([part], bins=settings.calibration_bins, resamples=bootstrap.resamples, seed=bootstrap.seed)
        uar = drawn["uar"]
        rows.append(
            {"speaker": speaker, "emotion": "", "utterances": len(part.truth), "recall": scores["uar"]}
            | {"low": uar.low, "high": uar.high}
        )
        present = [label for label in labels if label in scores["recall"]]
        among = np.stack([part.truth == labels.index(label) for label in present], axis=1)
        right = (part.probabilities.argmax(axis=1) == part.truth)[:, None]
        found = share_intervals([part], [among & right], [among], resamples=bootstrap.resamples, seed=bootstrap.seed)
        for label, members, interval in zip(present, among.T, found, strict=True):
            value = scores["recall"][label]
            shown = interval or Interval(value, value)
            rows.append(
                {"speaker": speaker, "emotion": label, "utterances": int(members.sum()), "recall": value}
                | {"low": shown.low, "high": shown.high}
            )
    return pd.DataFrame(rows)


def _of_speaker(fold: Predictions, speaker: str) -> Predictions:
    own = [row for row, name in enumerate(fold.speakers) if name == speaker]
    return Predictions(
        fold.truth[own], fold.probabilities[own], [fold.speakers[row] for row in own], [fold.words[row] for row in own]
    )


def _speakers(fold: Predictions, labels: tuple[str, ...], settings: EvaluateSettings) -> dict[str, Any]:
    """Return the number of utterances, UAR and recalls of each speaker of a fold."""
    parts = {speaker: _of_speaker(fold, speaker) for speaker in sorted(set(fold.speakers)) if speaker}
    scores = {
        speaker: metrics(part.truth, part.probabilities, labels, bins=settings.calibration_bins)
        for speaker, part in parts.items()
    }
    return {speaker: {name: one[name] for name in ("uar", "recall", "utterances")} for speaker, one in scores.items()}


def _add_calibration(
    summary: dict[str, Any], found: Mapping[str, FoldPredictions], labels: tuple[str, ...], settings: EvaluateSettings
) -> None:
    """Add the metrics before calibration, and the coverage and risk at the threshold, to each fold and the mean."""
    plain = {name: _with(as_predictions(fold.rows, labels), fold.before) for name, fold in found.items()}
    scopes = {name: [name] for name in found}
    for scope, members in {**scopes, "": list(found)}.items():
        place = summary["folds"][scope] if scope else summary["mean"]
        chosen = [plain[name] for name in members]
        bins, bootstrap = settings.calibration_bins, settings.bootstrap
        scores = [metrics(one.truth, one.probabilities, labels, bins=bins) for one in chosen]
        drawn = intervals(chosen, bins=bins, resamples=bootstrap.resamples, seed=bootstrap.seed)
        place["uncalibrated"] = rounded(
            {name: float(np.mean([one[name] for one in scores])) for name in _CALIBRATED}
            | {"interval": {name: interval for name, interval in _as_lists(drawn).items() if name in _CALIBRATED}}
        )
        place["rejection"] = rounded(_rejection([found[name] for name in members], chosen, settings))


def _rejection(
    found: Sequence[FoldPredictions], predictions: Sequence[Predictions], settings: EvaluateSettings
) -> dict[str, Any] | None:
    """Return coverage and risk at the threshold, averaged over folds; None: no package has a threshold.

    A fold without an answer above its threshold has no risk and is left out of the mean.
    """
    if any(fold.threshold is None for fold in found):
        return None
    sure = [fold.rows["sure"].to_numpy(dtype=bool) for fold in found]
    wrong = [(fold.rows["emotion"] != fold.rows["prediction"]).to_numpy() for fold in found]
    risks = [float(errors[kept].mean()) for errors, kept in zip(wrong, sure, strict=True) if kept.any()]
    everything = [np.ones_like(kept) for kept in sure]
    coverage, risk = share_intervals(
        predictions,
        [np.stack([kept, errors], axis=1) for kept, errors in zip(sure, wrong, strict=True)],
        [np.stack([all_, kept], axis=1) for all_, kept in zip(everything, sure, strict=True)],
        resamples=settings.bootstrap.resamples,
        seed=settings.bootstrap.seed,
    )
    return {
        "threshold": float(np.mean([fold.threshold for fold in found])),
        "coverage": float(np.mean([kept.mean() for kept in sure])),
        "risk": float(np.mean(risks)) if risks else None,
        "interval": {name: one.as_list() for name, one in (("coverage", coverage), ("risk", risk)) if one is not None},
    }


def _reliabilities(found: Mapping[str, FoldPredictions], labels: tuple[str, ...], bins: int) -> pd.DataFrame:
    """Return the bins of each fold, before and after calibration."""
    rows = []
    for name, fold in found.items():
        after = as_predictions(fold.rows, labels)
        for when, probabilities in (("before", fold.before), ("after", after.probabilities)):
            rows += [
                {"fold": name, "calibration": when, **asdict(one)}
                for one in reliability(after.truth, probabilities, bins=bins)
            ]
    return pd.DataFrame(rows)


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


def _marks(summary: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return coverage and risk of each fold at its package's threshold."""
    found = {name: fold["rejection"] for name, fold in summary["folds"].items()}
    return {name: (one["coverage"], one["risk"]) for name, one in found.items() if one and one["risk"] is not None}


def _with(predictions: Predictions, probabilities: np.ndarray) -> Predictions:
    return Predictions(predictions.truth, probabilities, predictions.speakers, predictions.words)


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
    plots.confusion_matrices(folder / "confusion.png", counts, labels, title=title)
    plots.training_curves(folder / "curves.png", history, title=f"{summary['protocol']} split: training")


def _predict(
    fold: Fold, protocol: str, package: Path, utterances: pd.DataFrame, store: FeatureStore
) -> FoldPredictions:
    """Predict the evaluated part of a fold."""
    ids = list(getattr(fold, evaluated_part(protocol)))
    recognizer = Recognizer.load(package)
    description = recognizer.package.description
    store = store.narrowed(description.features)
    leakage.check_normalization(recognizer.package, store.read(fold.train, scratch=SCRATCH))
    probabilities = recognizer.predict_frames(store.read(ids, scratch=SCRATCH))
    before = uncalibrated(probabilities, description.temperature)
    threshold = description.rejection.threshold if description.rejection else None
    rows = utterances.set_index("id").loc[ids, ["speaker", "emotion", "text"]].reset_index()
    rows.insert(0, "fold", fold.name)
    rows["prediction"] = np.array(recognizer.labels)[probabilities.argmax(axis=1)]
    rows["confidence"] = probabilities.max(axis=1)
    rows["uncalibrated"] = before.max(axis=1)
    rows["sure"] = rows["confidence"] >= (threshold or 0.0)
    columns = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in recognizer.labels])
    return FoldPredictions(pd.concat([rows, columns], axis=1), before, threshold)


def _as_lists(found: Mapping[str, Interval]) -> dict[str, list[float | None]]:
    return {name: interval.as_list() for name, interval in found.items()}


def rounded(values: Any) -> Any:
    """Round metrics to six decimals, so that files do not differ between machines."""
    if isinstance(values, dict):
        return {key: rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return round(values, 6) if isinstance(values, float) else values


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV with six decimals."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", float_format="%.6f")
