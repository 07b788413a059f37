"""Compute metrics from true labels and predicted probabilities."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, f1_score, log_loss, recall_score

from speech_emotion.models.calibration import risk_coverage

Metrics = dict[str, Any]

HEADLINES = ("accuracy", "uar", "macro_f1", "nll", "brier", "ece")
"""Metrics that models are compared by: higher is better for the first three, lower for the others."""

ALL = "all"
"""Every corpus, or both sexes."""

_RISK = 0.2
_LEAST = 1e-12


def metrics(truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str], *, bins: int) -> Metrics:
    """Compute every metric of one set of predictions.

    `truth` has the index of the true label [shape=(n,)]; the rows of `probabilities` [shape=(n, labels)] sum to 1, and
    its columns are in the order of `labels`. `bins` are those of the calibration error.

    Returns
    -------
    dict
        `accuracy` (WA), `uar` (unweighted average recall, over the labels that occur), `macro_f1`, `nll` (nats),
        `brier`, `ece`, `recall` (by label; absent labels left out) and `utterances`.
    """
    prediction = probabilities.argmax(axis=1)
    present = np.unique(truth)
    recalls = recall_score(truth, prediction, labels=present, average=None, zero_division=0)
    return {
        "accuracy": float((truth == prediction).mean()),
        "uar": float(recalls.mean()),
        "macro_f1": float(f1_score(truth, prediction, labels=present, average="macro", zero_division=0)),
        "nll": float(log_loss(truth, np.clip(probabilities, _LEAST, None), labels=np.arange(len(labels)))),
        "brier": brier(truth, probabilities),
        "ece": expected_calibration_error(truth, probabilities, bins=bins),
        "recall": {labels[label]: float(value) for label, value in zip(present, recalls, strict=True)},
        "utterances": len(truth),
    }


def slices(rows: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Return which utterances belong to each corpus of a mix and to all, and to each sex in it, by (corpus, sex)."""
    found = {}
    for corpus in [*sorted(set(rows["corpus"]) - {""}), ALL]:
        own = np.array([corpus in (name, ALL) for name in rows["corpus"]])
        for sex in [ALL, *sorted(set(rows.loc[own, "sex"]) - {""})]:
            found[corpus, sex] = own & np.array([sex in (name, ALL) for name in rows["sex"]])
    return found


def slice_metrics(
    truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str], *, bins: int, least: np.ndarray | float = 0
) -> Metrics:
    """Compute the metrics of a slice: UAR and macro-F1 over the labels that occur in it, and their recalls.

    `coverage_at_20_risk` is the largest share of predictions, most confident first, of which at most 20 % are wrong;
    `answered` the share with a confidence of at least `least`, and `answered_right` the right ones of these.
    """
    right = probabilities.argmax(axis=1) == truth
    coverage, risk = risk_coverage(probabilities.max(axis=1), right)
    recalls = {f"recall_{labels[label]}": float(right[truth == label].mean()) for label in np.unique(truth)}
    sure = probabilities.max(axis=1) >= least
    return {
        "uar": float(np.mean(list(recalls.values()))),
        "accuracy": float(right.mean()),
        "macro_f1": float(f1_score(truth, probabilities.argmax(axis=1), average="macro", labels=np.unique(truth))),
        "nll": float(-np.log(np.clip(probabilities[np.arange(len(truth)), truth], _LEAST, None)).mean()),
        "brier": brier(truth, probabilities),
        "ece": expected_calibration_error(truth, probabilities, bins=bins),
        "coverage_at_20_risk": float(coverage[risk <= _RISK].max(initial=0.0)),
        "answered": float(sure.mean()),
        "answered_right": float(right[sure].mean()) if sure.any() else math.nan,
        **recalls,
    }


def brier(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the Brier score over all labels, between 0 and 2 (Brier, 1950): mean of sum_k (p_k - y_k)^2."""
    labels = np.arange(probabilities.shape[1])
    return float(brier_score_loss(truth, probabilities, labels=labels, scale_by_half=False))


def expected_calibration_error(truth: np.ndarray, probabilities: np.ndarray, *, bins: int) -> float:
    """Return the expected calibration error over equal-width bins of confidence (Guo et al., 2017).

    sum_b n_b / n * |accuracy_b - confidence_b|

    Examples
    --------
    >>> expected_calibration_error(np.array([0, 0]), np.array([[0.8, 0.2], [0.8, 0.2]]), bins=10)
    0.2
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    sums = np.bincount(_bin_of(confidence, bins), weights=right - confidence, minlength=bins)
    return round(float(np.abs(sums).sum() / len(truth)), 12)


def reliability(truth: np.ndarray, probabilities: np.ndarray, *, bins: int) -> pd.DataFrame:
    """Return the non-empty bins of `expected_calibration_error`, by rising confidence.

    Returns
    -------
    pd.DataFrame [columns=(low, high, utterances, confidence, accuracy)]
        Range of confidence, number of utterances, and their mean confidence and accuracy.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    rows = pd.DataFrame({"bin": _bin_of(confidence, bins), "confidence": confidence, "right": right})
    found = rows.groupby("bin").agg(
        utterances=("right", "size"), confidence=("confidence", "mean"), accuracy=("right", "mean")
    )
    found.insert(0, "low", found.index / bins)
    found.insert(1, "high", (found.index + 1) / bins)
    return found.reset_index(drop=True)


def uncalibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities before temperature scaling [shape=(n, labels)], float64.

    The logarithm of a probability is its logit divided by the temperature, up to a constant that softmax cancels.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float64).tiny)) * temperature
    return softmax(logits, axis=1)


def mean_of(folds: Sequence[Metrics]) -> Metrics:
    """Return the mean of each headline metric over folds, with equal weights."""
    return {name: float(np.mean([fold[name] for fold in folds])) for name in HEADLINES}


def _bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((confidence * bins).astype(int), bins - 1)
