"""Compute bootstrap intervals of metrics, and of paired differences between two models.

Utterances are not independent: a speaker says the same word with every emotion. The bootstrap therefore resamples words
within each speaker, each word with all its utterances (a cluster bootstrap; Davison and Hinkley, 1997, section 3.8).
Where no speaker has two words there is nothing to resample, and the interval is unknown.

All metrics are functions of sums over utterances. The sums are computed once per word; a resample is then a row of
counts times a matrix, and a thousand resamples are one matrix product.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

LEVEL = 0.95
"""Of every interval."""

UNKNOWN = "interval unknown, one word per speaker"
"""The text of an interval that is unknown."""

_LEAST = 1e-12


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model for one set of utterances.

    Attributes
    ----------
    truth : np.ndarray [shape=(n,)], int
        Index of the true label.
    probabilities : np.ndarray [shape=(n, labels)]
    speakers, words : sequence of str
        Of each utterance; words are resampled within speaker.
    """

    truth: np.ndarray
    probabilities: np.ndarray
    speakers: Sequence[str]
    words: Sequence[str]


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
    """How a metric differs between two models on the same utterances.

    Attributes
    ----------
    value : float
        First minus second.
    interval : Interval
    p : float
        Two-sided: 2 (k + 1) / (n + 1), where k of the n resamples lie on the rarer side of 0; NaN if the interval is
        unknown.
    """

    value: float
    interval: Interval
    p: float


def intervals(folds: Sequence[Predictions], *, bins: int, resamples: int, seed: int) -> dict[str, Interval]:
    """Return the interval of each metric, averaged over folds.

    Parameters
    ----------
    folds : sequence of Predictions
        One a fold; a single one for an interval of that fold.
    bins : int
        Of the calibration error.
    resamples, seed : int
        Of the bootstrap.
    """
    return pooled_intervals([folds], bins=bins, resamples=resamples, seed=seed)


def pooled_intervals(
    repeats: Sequence[Sequence[Predictions]], *, bins: int, resamples: int, seed: int
) -> dict[str, Interval]:
    """Return the interval of each metric of a model that was made several times over, by chance alone different.

    The resamples are shared out among the repeats, so that the interval holds both what the choice of words and what
    the chance of the making does.

    Parameters
    ----------
    repeats : sequence of sequence of Predictions
        The folds of each repeat.
    bins, resamples, seed : int
        As in `intervals`, which this is for a single repeat.
    """
    drawn = _pooled(repeats, bins=bins, resamples=resamples, seed=seed)
    return {name: _interval(values) for name, values in drawn.items()}


def differences(
    first: Sequence[Predictions], second: Sequence[Predictions], *, bins: int, resamples: int, seed: int
) -> dict[str, Difference]:
    """Return how each metric differs between two models, by drawing the same words for both.

    Parameters
    ----------
    first, second : sequence of Predictions
        One a fold, of the same utterances in the same order.

    Raises
    ------
    ValueError
        The utterances are not the same.
    """
    return pooled_differences(first, [second], bins=bins, resamples=resamples, seed=seed)


def pooled_differences(
    first: Sequence[Predictions],
    repeats: Sequence[Sequence[Predictions]],
    *,
    bins: int,
    resamples: int,
    seed: int,
) -> dict[str, Difference]:
    """Return how each metric differs between a model and one that was made several times over; see `differences`.

    Raises
    ------
    ValueError
        The utterances are not the same.
    """
    for one, other in (pair for second in repeats for pair in zip(first, second, strict=True)):
        same = (list(one.words), list(one.speakers), one.truth.tolist())
        if same != (list(other.words), list(other.speakers), other.truth.tolist()):
            raise ValueError("a paired comparison needs the same utterances in the same order")
    ours: list[Sequence[Predictions]] = [first] * len(repeats)
    points = [_pooled(side, bins=bins, resamples=0, seed=seed) for side in (ours, repeats)]
    drawn = [_pooled(side, bins=bins, resamples=resamples, seed=seed) for side in (ours, repeats)]
    return {
        name: _difference(float((points[0][name] - points[1][name]).mean()), drawn[0][name] - drawn[1][name])
        for name in drawn[0]
    }


def share_intervals(
    folds: Sequence[Predictions],
    hits: Sequence[np.ndarray],
    among: Sequence[np.ndarray],
    *,
    resamples: int,
    seed: int,
) -> list[Interval | None]:
    """Return the interval of shares of utterances, each averaged over folds: recalls, coverage, risk.

    Parameters
    ----------
    folds : sequence of Predictions
    hits, among : sequence of np.ndarray [shape=(n, shares)], bool
        For each fold, the utterances that a share counts, and those that it is a share of.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    list of Interval or None
        None: a share of nothing, in every resample. A single resample of nothing takes no part.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    unknown = any(_cannot_resample(_clusters(fold)[0]) for fold in folds)
    for fold, hit, base in zip(folds, hits, among, strict=True):
        clusters, member = _clusters(fold)
        sums = np.zeros((len(clusters), 2 * hit.shape[1]))
        np.add.at(sums, member, np.concatenate([hit & base, base], axis=1).astype(np.float64))
        counts = _counts(_speakers(clusters), resamples, rng)
        counted, of = np.split(counts @ sums, 2, axis=1)
        drawn.append(np.divide(counted, of, out=np.full_like(counted, np.nan), where=of > 0))
    found = np.stack(drawn)
    means = np.nansum(found, axis=0) / np.maximum(np.isfinite(found).sum(axis=0), 1)
    means[~np.isfinite(found).any(axis=0)] = np.nan
    if unknown:
        return [Interval(math.nan, math.nan) if np.isfinite(values).any() else None for values in means.T]
    return [_interval(values[np.isfinite(values)]) if np.isfinite(values).any() else None for values in means.T]


def _pooled(repeats: Sequence[Sequence[Predictions]], *, bins: int, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Return each metric of every resample of every repeat; 0 resamples: of each repeat as it is."""
    share = -(-resamples // len(repeats))
    drawn = [
        _mean_over_folds(folds, bins=bins, resamples=share, seed=seed + number) for number, folds in enumerate(repeats)
    ]
    return {name: np.concatenate([one[name] for one in drawn]) for name in drawn[0]}


def _difference(value: float, drawn: np.ndarray) -> Difference:
    interval = _interval(drawn)
    rarer = int(min((drawn <= 0).sum(), (drawn >= 0).sum()))
    p = min(1.0, 2 * (rarer + 1) / (len(drawn) + 1))
    return Difference(value, interval, p if interval.is_known else math.nan)


def _interval(drawn: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _mean_over_folds(folds: Sequence[Predictions], *, bins: int, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Return each metric of every resample, averaged over folds; 0 resamples: of the utterances as they are."""
    rng = np.random.default_rng(seed)
    drawn = [_drawn(fold, bins=bins, resamples=resamples, rng=rng) for fold in folds]
    return {name: np.mean([one[name] for one in drawn], axis=0) for name in drawn[0]}


def _drawn(fold: Predictions, *, bins: int, resamples: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    clusters, member = _clusters(fold)
    sums = _sums(fold, member, len(clusters), bins)
    counts = np.ones((1, len(clusters))) if not resamples else _counts(_speakers(clusters), resamples, rng)
    found = _metrics(counts @ sums, fold.probabilities.shape[1], bins)
    if resamples and _cannot_resample(clusters):
        return {name: np.full_like(values, np.nan) for name, values in found.items()}
    return found


def _clusters(fold: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of the clusters, a speaker's word each, and the number of each utterance's cluster."""
    names = [f"{speaker}\0{word}" for speaker, word in zip(fold.speakers, fold.words, strict=True)]
    clusters, member = np.unique(names, return_inverse=True)
    return clusters, member


def _speakers(clusters: np.ndarray) -> np.ndarray:
    return np.array([name.partition("\0")[0] for name in clusters])


def _cannot_resample(clusters: np.ndarray) -> bool:
    """Return whether every speaker has a single word, so that all resamples would be equal."""
    return len(np.unique(_speakers(clusters))) == len(clusters)


def _counts(speakers: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each cluster is drawn [shape=(resamples, clusters)]; a speaker keeps as many as there are."""
    counts = np.zeros((resamples, len(speakers)))
    for speaker in np.unique(speakers):
        own = np.flatnonzero(speakers == speaker)
        counts[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=resamples)
    return counts


def _sums(fold: Predictions, member: np.ndarray, clusters: int, bins: int) -> np.ndarray:
    """Return, a row a cluster, the sums that every metric is a function of."""
    truth, probabilities = fold.truth, fold.probabilities.astype(np.float64)
    labels = probabilities.shape[1]
    prediction, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    rows = np.arange(len(truth))
    columns = np.zeros((len(truth), labels**2 + bins + 3))
    columns[rows, truth * labels + prediction] = 1
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    columns[rows, labels**2 + bin_of] = (prediction == truth) - confidence
    columns[:, -3] = -np.log(np.clip(probabilities[rows, truth], _LEAST, 1.0))
    columns[:, -2] = ((probabilities - np.eye(labels)[truth]) ** 2).sum(axis=1)
    columns[:, -1] = 1
    sums = np.zeros((clusters, columns.shape[1]))
    np.add.at(sums, member, columns)
    return sums


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
