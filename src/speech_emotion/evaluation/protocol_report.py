"""Takes the packages of a protocol's folds; gives the folder of metrics, predictions and pictures that judges them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from speech_emotion.config.data import Protocol
from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.io import replacing, replacing_folder, write_json
from speech_emotion.core.process import SCRATCH
from speech_emotion.data.splits import TEST, VALIDATION, Fold
from speech_emotion.evaluation import leakage, plots
from speech_emotion.evaluation.bootstrap import Interval, Predictions, intervals, share_intervals
from speech_emotion.evaluation.metrics import HEADLINES, confusion, mean_of, metrics, reliability, uncalibrated
from speech_emotion.features.store import FeatureStore
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.models.calibration import risk_coverage

METRICS: Final = "metrics.json"
SCORES: Final = "scores.json"
"""The headline metrics alone: what `dvc metrics show` puts in a table that a screen holds."""
PREDICTIONS: Final = "predictions.csv"
CURVES: Final = "curves.csv"
MEAN_CURVES: Final = "mean_curves.csv"
"""The mean over folds, one row an epoch: what `dvc plots` draws as one line."""
CONFUSION: Final = "confusion.csv"
RELIABILITY: Final = "reliability.csv"
RISK_COVERAGE: Final = "risk_coverage.csv"

_CALIBRATED: Final = ("nll", "brier", "ece")
"""The metrics that calibration moves."""

_STEPS: Final = 100
"""Points of the risk-coverage curve."""


@dataclass(frozen=True)
class Judged:
    """What a fold's package answered to its judged part.

    Attributes
    ----------
    rows : pd.DataFrame
        Those of predictions.csv.
    before : np.ndarray [shape=(n, labels)]
        The probabilities before calibration.
    threshold : float or None
        From which confidence on an answer is sure; None: always.
    """

    rows: pd.DataFrame
    before: np.ndarray
    threshold: float | None


def judged_part(protocol: str) -> str:
    """Return the part that a protocol is judged on: the test part, or validation where all else trains (`full`)."""
    return VALIDATION if protocol == "full" else TEST


def evaluate_folds(
    folds: list[Fold],
    *,
    protocol: Protocol,
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
        The folder to make: `metrics.json`, `scores.json`, `predictions.csv`, `confusion.csv`, `curves.csv`,
        `mean_curves.csv`, `reliability.csv`, `risk_coverage.csv`, pictures.

    Returns
    -------
    dict
        The content of metrics.json: metrics by fold and their mean.

    Raises
    ------
    LeakError
        The split, or what a package knows of the recordings, leaks; see `leaks`.
    """
    leakage.check_folds(folds, manifest, protocol)
    judged = {fold.name: _predict(fold, protocol, models / fold.name, manifest, store) for fold in folds}
    predictions = {name: fold.rows for name, fold in judged.items()}
    labels = Recognizer.load(models / folds[0].name).labels
    summary = summarize(predictions, labels, settings) | {"protocol": protocol, "part": judged_part(protocol)}
    _add_calibration(summary, judged, labels, settings)
    bins = settings.calibration_bins
    reliabilities, coverages = _reliabilities(judged, labels, bins), _coverages(judged)
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
        _write_csv(aside / MEAN_CURVES, history.drop(columns="fold").groupby("epoch").mean().reset_index())
        _write_csv(aside / RELIABILITY, reliabilities)
        _write_csv(aside / RISK_COVERAGE, coverages)
        draw(aside, summary, predictions, history, labels)
        plots.reliability(aside / "reliability.png", reliabilities, title=f"{protocol} split: reliability")
        plots.risk_coverage(
            aside / "risk_coverage.png", coverages, _marks(summary), title=f"{protocol} split: risk by coverage"
        )
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
    """Return what tells a fold's speakers apart: how many utterances, UAR and recalls."""
    parts = {speaker: _of_speaker(fold, speaker) for speaker in sorted(set(fold.speakers)) if speaker}
    scores = {
        speaker: metrics(part.truth, part.probabilities, labels, bins=settings.calibration_bins)
        for speaker, part in parts.items()
    }
    return {speaker: {name: one[name] for name in ("uar", "recall", "utterances")} for speaker, one in scores.items()}


def _add_calibration(
    summary: dict[str, Any], judged: Mapping[str, Judged], labels: tuple[str, ...], settings: EvaluateSettings
) -> None:
    """Add to each fold and to the mean what calibration changed, and what the package's threshold keeps."""
    plain = {name: _with(as_predictions(fold.rows, labels), fold.before) for name, fold in judged.items()}
    scopes = {name: [name] for name in judged}
    for scope, members in {**scopes, "": list(judged)}.items():
        place = summary["folds"][scope] if scope else summary["mean"]
        chosen = [plain[name] for name in members]
        bins, bootstrap = settings.calibration_bins, settings.bootstrap
        scores = [metrics(one.truth, one.probabilities, labels, bins=bins) for one in chosen]
        drawn = intervals(chosen, bins=bins, resamples=bootstrap.resamples, seed=bootstrap.seed)
        place["uncalibrated"] = rounded(
            {name: float(np.mean([one[name] for one in scores])) for name in _CALIBRATED}
            | {"interval": {name: interval for name, interval in _as_lists(drawn).items() if name in _CALIBRATED}}
        )
        place["rejection"] = rounded(_rejection([judged[name] for name in members], chosen, settings))


def _rejection(
    judged: Sequence[Judged], predictions: Sequence[Predictions], settings: EvaluateSettings
) -> dict[str, Any] | None:
    """Return the share of sure answers, and of wrong ones among them, averaged over folds; None: no package rejects.

    The risk of a fold without a sure answer is left out; where no fold has one it is null.
    """
    if any(fold.threshold is None for fold in judged):
        return None
    sure = [fold.rows["sure"].to_numpy(dtype=bool) for fold in judged]
    wrong = [(fold.rows["emotion"] != fold.rows["prediction"]).to_numpy() for fold in judged]
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
        "threshold": float(np.mean([fold.threshold for fold in judged])),
        "coverage": float(np.mean([kept.mean() for kept in sure])),
        "risk": float(np.mean(risks)) if risks else None,
        "interval": {
            name: [one.low, one.high] for name, one in (("coverage", coverage), ("risk", risk)) if one is not None
        },
    }


def _reliabilities(judged: Mapping[str, Judged], labels: tuple[str, ...], bins: int) -> pd.DataFrame:
    """Return the bins of each fold, before and after calibration."""
    rows = []
    for name, fold in judged.items():
        after = as_predictions(fold.rows, labels)
        for when, probabilities in (("before", fold.before), ("after", after.probabilities)):
            found = reliability(after.truth, probabilities, bins=bins)
            rows += [{"fold": name, "calibration": when, **asdict(one)} for one in found]
    return pd.DataFrame(rows)


def _coverages(judged: Mapping[str, Judged]) -> pd.DataFrame:
    """Return risk by coverage of each fold, a hundred points each, and the confidence from which on they count."""
    tables = []
    for name, fold in judged.items():
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
    plots.confusion_matrices(folder / "confusion.png", counts, labels, title=title)
    plots.training_curves(folder / "curves.png", history, title=f"{summary['protocol']} split: training")


def _predict(fold: Fold, protocol: str, package: Path, manifest: pd.DataFrame, store: FeatureStore) -> Judged:
    """Return one row an utterance: what it is, what was heard, and the probability of every label."""
    ids = list(getattr(fold, judged_part(protocol)))
    recognizer = Recognizer.load(package)
    description = recognizer.package.description
    store = store.narrowed(description.features)
    leakage.check_normalization(recognizer.package, store.read(fold.train, scratch=SCRATCH))
    probabilities = recognizer.predict_frames(store.read(ids, scratch=SCRATCH))
    before = uncalibrated(probabilities, description.temperature)
    threshold = description.rejection.threshold if description.rejection else None
    rows = manifest.set_index("id").loc[ids, ["speaker", "emotion", "text"]].reset_index()
    rows.insert(0, "fold", fold.name)
    rows["prediction"] = np.array(recognizer.labels)[probabilities.argmax(axis=1)]
    rows["confidence"] = probabilities.max(axis=1)
    rows["uncalibrated"] = before.max(axis=1)
    rows["sure"] = rows["confidence"] >= (threshold or 0.0)
    columns = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in recognizer.labels])
    return Judged(pd.concat([rows, columns], axis=1), before, threshold)


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
