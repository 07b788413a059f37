"""Compute metrics from true labels and predicted probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    recall_score,
)

Metrics = dict[str, Any]

HEADLINES = ("accuracy", "uar", "macro_f1", "nll", "brier", "ece")
"""Metrics that models are compared by: higher is better for the first three, lower for the others."""

_LEAST = 1e-12


def metrics(truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str], *, bins: int) -> Metrics:
    """Compute every metric of one set of predictions.

    Parameters
    ----------
    truth : np.ndarray [shape=(n,)], int
        Index of the true label.
    probabilities : np.ndarray [shape=(n, labels)]
        Rows sum to 1.
    labels : sequence of str
        In the order of the columns.
    bins : int
        Number of bins of the calibration error.

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
        "uar": _unweighted_average_recall(truth, prediction),
        "macro_f1": float(f1_score(truth, prediction, labels=present, average="macro", zero_division=0)),
        "nll": float(log_loss(truth, np.clip(probabilities, _LEAST, None), labels=np.arange(len(labels)))),
        "brier": brier(truth, probabilities),
        "ece": expected_calibration_error(truth, probabilities, bins=bins),
        "recall": {labels[label]: float(value) for label, value in zip(present, recalls, strict=True)},
        "utterances": len(truth),
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
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    sums = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return round(float(np.abs(sums).sum() / len(truth)), 12)


@dataclass(frozen=True)
class Bin:
    """The predictions of one range of confidence.

    Attributes
    ----------
    low, high : float
        The range.
    utterances : int
    confidence, accuracy : float
        Means over the utterances.
    """

    low: float
    high: float
    utterances: int
    confidence: float
    accuracy: float


def reliability(truth: np.ndarray, probabilities: np.ndarray, *, bins: int) -> list[Bin]:
    """Return the non-empty bins of `expected_calibration_error`, by rising confidence."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        Bin(
            number / bins,
            (number + 1) / bins,
            int((bin_of == number).sum()),
            float(confidence[bin_of == number].mean()),
            float(right[bin_of == number].mean()),
        )
        for number in np.unique(bin_of)
    ]


def uncalibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities before temperature scaling [shape=(n, labels)], float64.

    The logarithm of a probability is its logit divided by the temperature, up to a constant that softmax cancels.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float64).tiny)) * temperature
    return softmax(logits, axis=1)


def confusion(truth: np.ndarray, prediction: np.ndarray, labels: int) -> np.ndarray:
    """Return counts [shape=(labels, labels)]: true label by row, predicted by column."""
    return confusion_matrix(truth, prediction, labels=np.arange(labels))


def mean_of(folds: Sequence[Metrics]) -> Metrics:
    """Return the mean of each headline metric over folds, with equal weights."""
    return {name: float(np.mean([fold[name] for fold in folds])) for name in HEADLINES}


def _unweighted_average_recall(truth: np.ndarray, prediction: np.ndarray) -> float:
    import warnings

    with warnings.catch_warnings():
        # predicting a label that does not occur is a mistake like any other
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        return float(balanced_accuracy_score(truth, prediction))
