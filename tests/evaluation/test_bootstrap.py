from dataclasses import replace

import numpy as np
import pytest

from speech_emotion.config.evaluation import BootstrapSettings, EvaluateSettings
from speech_emotion.evaluation import bootstrap
from speech_emotion.evaluation.bootstrap import Predictions, differences, intervals
from speech_emotion.evaluation.metrics import metrics

LABELS = ("angry", "happy", "sad")


def settings(resamples: int = 200, *, seed: int = 0) -> EvaluateSettings:
    return EvaluateSettings(calibration_bins=10, bootstrap=BootstrapSettings(resamples=resamples, seed=seed))


def predictions(*, words: int = 40, accuracy: float = 0.8, seed: int = 0, sure: float = 0.7) -> Predictions:
    """Return two speakers saying every word with every label; a word is predicted right with all labels or none."""
    rng = np.random.default_rng(seed)
    rows = [(s, w, label) for s in "AB" for w in range(words) for label in range(3)]
    right = {(s, w): rng.random() < accuracy for s in "AB" for w in range(words)}
    truth = np.array([label for _, _, label in rows])
    predicted = np.array([label if right[s, w] else (label + 1) % 3 for s, w, label in rows])
    probabilities = np.full((len(rows), 3), (1 - sure) / 2)
    probabilities[np.arange(len(rows)), predicted] = sure
    return Predictions(truth, probabilities, [s for s, _, _ in rows], [f"word{w}" for _, w, _ in rows])


def test_difference_is_that_of_the_metrics() -> None:
    rng = np.random.default_rng(3)
    first, second = (replace(predictions(), probabilities=rng.dirichlet(np.ones(3), 240)) for _ in range(2))

    found = differences([first], [second], settings=settings(100))

    expected = [metrics(one.truth, one.probabilities, LABELS, bins=10) for one in (first, second)]
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {name: expected[0][name] - expected[1][name] for name in found}
    )


def test_words_are_clusters() -> None:
    fold = predictions()

    found = intervals([fold], settings=settings(2000, seed=1))["accuracy"]

    share = metrics(fold.truth, fold.probabilities, LABELS, bins=10)["accuracy"]
    half = 1.96 * np.sqrt(share * (1 - share) / 80)  # 80 words, not 240 utterances
    assert found.low == pytest.approx(share - half, abs=0.02)
    assert found.high == pytest.approx(share + half, abs=0.02)


def test_speakers_are_clusters_where_there_are_many() -> None:
    """Half of the speakers are always right, the others never: only speakers vary, whatever they say."""
    rows = [(f"{s}", w, label) for s in range(20) for w in range(10) for label in range(3)]
    truth = np.array([label for *_, label in rows])
    right = np.array([int(speaker) % 2 == 0 for speaker, *_ in rows])
    probabilities = np.full((len(rows), 3), 0.1)
    probabilities[np.arange(len(rows)), np.where(right, truth, (truth + 1) % 3)] = 0.8
    fold = Predictions(truth, probabilities, [s for s, *_ in rows], [f"word{w}" for _, w, _ in rows])
    few = np.array([int(speaker) < 4 for speaker in fold.speakers])
    who, said = (list(np.array(column)[few]) for column in (fold.speakers, fold.words))
    fewer = Predictions(truth[few], probabilities[few], who, said)

    found = intervals([fold], settings=settings(2000))["uar"]

    half = 1.96 * np.sqrt(0.25 / 20)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.05)
    within = intervals([fewer], settings=settings(200))["uar"]
    assert within.low == within.high == pytest.approx(0.5)  # no word differs from another of its speaker


def test_coverage_of_intervals() -> None:
    held = 0
    for seed in range(100):
        found = intervals([predictions(seed=seed)], settings=settings(300, seed=seed))["uar"]
        held += found.low <= 0.8 <= found.high

    assert 0.90 <= held / 100 <= 1


def test_paired_differences() -> None:
    better = differences([predictions(accuracy=1.0)], [predictions(accuracy=0.2)], settings=settings(199))["uar"]
    equal = differences([predictions()], [predictions()], settings=settings())["uar"]
    noise = [
        differences([predictions(seed=n)], [predictions(seed=n + 500)], settings=settings(300))["uar"].p < 0.05
        for n in range(30)
    ]

    assert better.interval.low > 0
    assert better.p == pytest.approx(2 / 200)  # the least that 199 resamples can give
    assert (equal.value, equal.interval.low, equal.interval.high, equal.p) == (0, 0, 0, 1)
    assert np.mean(noise) <= 0.14


def test_unknown_with_one_word_per_speaker() -> None:
    fold, other = predictions(words=1), predictions(words=1, seed=1)

    found = intervals([fold], settings=settings(100))["uar"]
    difference = differences([fold], [other], settings=settings(100))["uar"]

    assert (found.is_known, found.as_list(), found.text()) == (False, [None, None], bootstrap.UNKNOWN)
    assert not bootstrap.Interval.from_list(found.as_list()).is_known
    assert not difference.interval.is_known
    assert np.isnan(difference.p)
    assert intervals([predictions(words=2)], settings=settings(100))["uar"].is_known


def test_repeats_are_pooled() -> None:
    repeats = [[predictions(seed=seed, accuracy=accuracy)] for seed, accuracy in enumerate((0.5, 0.6, 0.7, 0.8, 0.9))]

    pooled = intervals(*repeats, settings=settings(1000))["uar"]
    single = intervals(repeats[2], settings=settings(1000))["uar"]

    assert pooled.low < 0.55
    assert pooled.high > 0.85
    assert pooled.high - pooled.low > 1.5 * (single.high - single.low)
    ahead = differences([predictions(accuracy=1.0)], *repeats, settings=settings(1000))["uar"]
    points = [metrics(one.truth, one.probabilities, LABELS, bins=10)["uar"] for (one,) in repeats]
    assert ahead.value == pytest.approx(1 - np.mean(points))
