"""Takes logits of voices that training never heard; gives the temperature and the threshold that a package carries."""

from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar

from speech_emotion.models.package import Rejection

_TEMPERATURES: Final = (0.05, 20.0)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the probabilities of logits divided by a temperature; both [shape=(n, labels)], float64."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature under which the truth is likeliest (Guo et al., 2017, arXiv:1706.04599).

    Parameters
    ----------
    logits : np.ndarray [shape=(n, labels)]
    truth : np.ndarray [shape=(n,)]
        Indices of labels.

    Returns
    -------
    float
        Between 0.05 and 20, to four digits: what is finer is rounding, and would differ between machines.
    """
    rows = np.arange(len(truth))

    def loss(logarithm: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(logarithm)
        highest = scaled.max(axis=1, keepdims=True)
        sums = np.log(np.exp(scaled - highest).sum(axis=1)) + highest[:, 0]
        return float((sums - scaled[rows, truth]).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded", options={"xatol": 1e-6})
    return float(f"{np.exp(found.x):.4g}")


def fit_rejection(probabilities: np.ndarray, truth: np.ndarray, *, risk: float) -> Rejection:
    """Return the lowest threshold above which at most a share `risk` of the answers is wrong.

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
        Where no threshold keeps the risk, one above every confidence seen, at coverage 0.

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
    """Return coverage and risk as the threshold falls, most confident answers first; both [shape=(n,)]."""
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(order) + 1)
    return counts / len(order), np.cumsum(~right[order]) / counts
