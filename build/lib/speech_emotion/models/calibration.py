"""Calibrate confidence: fit a temperature and the threshold of "not sure" on the validation part."""

from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from speech_emotion.models.package import Rejection

_TEMPERATURES: Final = (1.0, 20.0)
"""At least 1: a validation part without errors has no best temperature, the fit would make every answer certain."""


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature with the lowest negative log-likelihood (Guo et al., 2017, arXiv:1706.04599).

    Parameters
    ----------
    logits : np.ndarray [shape=(n, labels)]
    truth : np.ndarray [shape=(n,)]
        Indices of labels.

    Returns
    -------
    float
        Between 1 and 20, rounded to four digits so that it does not differ between machines.
    """
    rows = np.arange(len(truth))

    def loss(logarithm: float) -> float:
        log_probabilities = log_softmax(logits.astype(np.float64) / np.exp(logarithm), axis=1)
        return -float(log_probabilities[rows, truth].mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded", options={"xatol": 1e-6})
    return float(f"{np.exp(found.x):.4g}")


def fit_rejection(probabilities: np.ndarray, truth: np.ndarray, *, risk: float) -> Rejection:
    """Return the lowest threshold above which at most a share `risk` of the predictions is wrong.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(n, labels)]
        Calibrated.
    truth : np.ndarray [shape=(n,)]
    risk : float
        Between 0 and 1.

    Returns
    -------
    Rejection
        If no threshold keeps the risk, one above every confidence, with coverage 0.

    Notes
    -----
    Selective classification (Geifman and El-Yaniv, 2017, arXiv:1705.08500), by the empirical risk.
    """
    confidence = probabilities.max(axis=1)
    wrong = probabilities.argmax(axis=1) != truth
    order = np.argsort(-confidence, kind="stable")
    risks = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    kept = np.flatnonzero(risks <= risk)
    lowest = confidence[order[kept[-1]]] if len(kept) else 1.0
    threshold = float(np.floor(lowest * 1e6) / 1e6)
    sure = confidence >= threshold
    return Rejection(
        threshold=threshold,
        risk=round(float(wrong[sure].mean()), 6) if sure.any() else 0.0,
        coverage=round(float(sure.mean()), 6),
    )


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coverage and risk for a falling threshold, most confident predictions first; both [shape=(n,)]."""
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(order) + 1)
    return counts / len(order), np.cumsum(~right[order]) / counts
