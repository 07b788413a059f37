"""Compute bootstrap intervals of metrics, and of paired differences between two models.

Utterances are not independent: those of a speaker resemble each other, and a speaker says the same word with every
emotion. The bootstrap therefore resamples clusters (Davison and Hinkley, 1997, section 3.8): with `MANY` speakers or
more, speakers, each with all utterances; with fewer, words within each speaker, each word with all its utterances. Only
the first covers the difference between speakers. Where no speaker has two words there is nothing to resample, and the
interval is unknown.

All metrics are functions of sums over utterances. The sums are computed once per cluster; a resample is then a row of
counts times a matrix, and a thousand resamples are one matrix product.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from speech_emotion.config.evaluation import EvaluateSettings

LEVEL = 0.95
"""Of every interval."""

MANY = 5
"""Speakers in a set of predictions from which speakers are resampled."""

UNKNOWN = "interval unknown, one text per speaker"
"""The text of an interval that is unknown."""

_LEAST = 1e-12


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model for one set of utterances."""

    truth: np.ndarray
    """Index of the true label [shape=(n,)], int."""
    probabilities: np.ndarray
    """Shape (n, labels)."""
    speakers: Sequence[str]
    words: Sequence[str]
    """Of each utterance; resampled within speaker, if there are few speakers."""


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile interval; both bounds are NaN if it is unknown, since no speaker has two words."""

    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether there were words to resample."""
        return not math.isnan(self.low)

    @classmethod
    def from_list(cls, bounds: Sequence[float | None]) -> Self:
        """Return an interval from its bounds in JSON; null is unknown."""
        low, high = (math.nan if bound is None else bound for bound in bounds)
        return cls(low, high)

    def as_list(self) -> list[float | None]:
        """Return the bounds for JSON, which has no NaN."""
        return [self.low, self.high] if self.is_known else [None, None]

    def text(self, spec: str = ".3f") -> str:
        """Return the interval as text, such as "0.412 to 0.498"."""
        return f"{self.low:{spec}} to {self.high:{spec}}" if self.is_known else UNKNOWN


@dataclass(frozen=True)
class Difference:
    """Difference of a metric between two models on the same utterances, first minus second."""

    value: float
    interval: Interval
    p: float
    """Two-sided: 2 (k + 1) / (n + 1), where k of n resamples lie on the rarer side of 0; NaN: unknown interval."""


def intervals(*repeats: Sequence[Predictions], settings: EvaluateSettings) -> dict[str, Interval]:
    """Return the interval of each metric, averaged over folds.

    `repeats` are the folds of a model. Of a model that was trained several times, the folds of each repeat: the
    resamples are divided among them, so that the interval covers the chance of the training as well.
    """
    drawn = _pooled(repeats, settings, settings.bootstrap.resamples)
    return {name: _interval(values) for name, values in drawn.items()}


def differences(
    first: Sequence[Predictions], *repeats: Sequence[Predictions], settings: EvaluateSettings
) -> dict[str, Difference]:
    """Return the difference of each metric between two models, with the same clusters drawn for both.

    `first` has one element per fold; `repeats` are the other model, as in `intervals`. Raise a `ValueError` unless both
    have the same utterances in the same order.
    """
    for one, other in (pair for second in repeats for pair in zip(first, second, strict=True)):
        same = (list(one.words), list(one.speakers), one.truth.tolist())
        if same != (list(other.words), list(other.speakers), other.truth.tolist()):
            raise ValueError("a paired comparison needs the same utterances in the same order")
    sides = ([first] * len(repeats), repeats)
    points = [_pooled(side, settings, 0) for side in sides]
    drawn = [_pooled(side, settings, settings.bootstrap.resamples) for side in sides]
    return {
        name: _difference(float((points[0][name] - points[1][name]).mean()), drawn[0][name] - drawn[1][name])
        for name in drawn[0]
    }


def _pooled(repeats: Sequence[Sequence[Predictions]], settings: EvaluateSettings, count: int) -> dict[str, np.ndarray]:
    """Return each metric of `count` resamples of the repeats, averaged over folds; 0: of the data itself."""
    share = -(-count // len(repeats))
    means = []
    for number, folds in enumerate(repeats):
        rng = np.random.default_rng(settings.bootstrap.seed + number)
        drawn = [_drawn(fold, settings.calibration_bins, share, rng) for fold in folds]
        means.append({name: np.mean([one[name] for one in drawn], axis=0) for name in drawn[0]})
    return {name: np.concatenate([one[name] for one in means]) for name in means[0]}


def _drawn(fold: Predictions, bins: int, resamples: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    strata, member = _clusters(fold)
    sums = _sum_by_cluster(_terms(fold, bins), member)
    counts = _counts(strata, resamples, rng) if resamples else np.ones((1, len(strata)))
    found = _metrics(counts @ sums, fold.probabilities.shape[1], bins)
    if resamples and _cannot_resample(strata):
        return {name: np.full_like(values, np.nan) for name, values in found.items()}
    return found


def _difference(value: float, drawn: np.ndarray) -> Difference:
    interval = _interval(drawn)
    rarer = int(min((drawn <= 0).sum(), (drawn >= 0).sum()))
    p = min(1.0, 2 * (rarer + 1) / (len(drawn) + 1))
    return Difference(value, interval, p if interval.is_known else math.nan)


def _interval(drawn: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _clusters(fold: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return the stratum of each cluster, within which clusters are resampled, and the cluster of each utterance."""
    table = pd.DataFrame({"speaker": list(fold.speakers), "word": list(fold.words)})
    if table["speaker"].nunique() >= MANY:
        member = table.groupby("speaker", sort=True).ngroup().to_numpy()
        return np.full(member.max() + 1, ""), member
    member = table.groupby(["speaker", "word"], sort=True).ngroup().to_numpy()
    return table.groupby(member)["speaker"].first().to_numpy(), member


def _cannot_resample(strata: np.ndarray) -> bool:
    """Return whether every speaker has a single word, so that all resamples would be equal."""
    return len(set(strata)) == len(strata)


def _counts(strata: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each cluster is drawn [shape=(resamples, clusters)]; a stratum keeps as many as there are."""
    counts = np.zeros((resamples, len(strata)))
    for stratum in sorted(set(strata)):
        own = np.flatnonzero(strata == stratum)
        counts[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=resamples)
    return counts


def _sum_by_cluster(terms: np.ndarray, member: np.ndarray) -> np.ndarray:
    sums = np.zeros((member.max() + 1, terms.shape[1]))
    np.add.at(sums, member, terms.astype(np.float64))
    return sums


def _terms(fold: Predictions, bins: int) -> np.ndarray:
    """Return, for each utterance, the terms whose sums every metric is a function of."""
    truth, probabilities = fold.truth, fold.probabilities.astype(np.float64)
    labels = probabilities.shape[1]
    prediction, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    rows = np.arange(len(truth))
    terms = np.zeros((len(truth), labels**2 + bins + 3))
    terms[rows, truth * labels + prediction] = 1
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    terms[rows, labels**2 + bin_of] = (prediction == truth) - confidence
    terms[:, -3] = -np.log(np.clip(probabilities[rows, truth], _LEAST, 1.0))
    terms[:, -2] = ((probabilities - np.eye(labels)[truth]) ** 2).sum(axis=1)
    terms[:, -1] = 1
    return terms


def _metrics(sums: np.ndarray, labels: int, bins: int) -> dict[str, np.ndarray]:
    confusion = sums[:, : labels**2].reshape(-1, labels, labels)
    right = np.diagonal(confusion, axis1=1, axis2=2)
    actual, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    occurs = actual > 0
    recall = np.divide(right, actual, out=np.zeros_like(right), where=occurs)
    f1 = np.divide(2 * right, actual + predicted, out=np.zeros_like(right), where=actual + predicted > 0)
    total = sums[:, -1]
    return {
        "accuracy": right.sum(axis=1) / total,
        "uar": recall.sum(axis=1) / occurs.sum(axis=1),
        "macro_f1": np.where(occurs, f1, 0).sum(axis=1) / occurs.sum(axis=1),
        "nll": sums[:, -3] / total,
        "brier": sums[:, -2] / total,
        "ece": np.abs(sums[:, labels**2 : labels**2 + bins]).sum(axis=1) / total,
    }
