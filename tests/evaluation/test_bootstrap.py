import numpy as np
import pytest

from speech_emotion.evaluation import bootstrap
from speech_emotion.evaluation.bootstrap import Predictions, differences, intervals
from speech_emotion.evaluation.metrics import HEADLINES, metrics

LABELS = ("angry", "happy", "sad")


def predictions(*, words: int = 40, accuracy: float = 0.8, seed: int = 0, sure: float = 0.7) -> Predictions:
    """Return two speakers saying every word with every label; a whole word is heard rightly, or none of it."""
    rng = np.random.default_rng(seed)
    rows = [(s, w, label) for s in "AB" for w in range(words) for label in range(3)]
    right = {(s, w): rng.random() < accuracy for s in "AB" for w in range(words)}
    truth = np.array([label for _, _, label in rows])
    heard = np.array([label if right[s, w] else (label + 1) % 3 for s, w, label in rows])
    probabilities = np.full((len(rows), 3), (1 - sure) / 2)
    probabilities[np.arange(len(rows)), heard] = sure
    return Predictions(truth, probabilities, [s for s, _, _ in rows], [f"word{w}" for _, w, _ in rows])


def test_metrics_from_sums_are_those_of_the_utterances() -> None:
    rng = np.random.default_rng(3)
    fold = predictions()
    fold = Predictions(fold.truth, rng.dirichlet(np.ones(3), len(fold.truth)), fold.speakers, fold.words)

    found = bootstrap._mean_over_folds([fold], bins=12, resamples=0, seed=0)

    expected = metrics(fold.truth, fold.probabilities, LABELS, bins=12)
    assert {name: values[0] for name, values in found.items()} == pytest.approx({n: expected[n] for n in HEADLINES})


def test_an_interval_knows_that_utterances_of_a_word_stand_and_fall_together() -> None:
    fold = predictions()

    found = intervals([fold], bins=10, resamples=2000, seed=1)["accuracy"]

    share = metrics(fold.truth, fold.probabilities, LABELS, bins=10)["accuracy"]
    half = 1.96 * np.sqrt(share * (1 - share) / 80)  # 80 words, not 240 utterances
    assert found.low == pytest.approx(share - half, abs=0.02)
    assert found.high == pytest.approx(share + half, abs=0.02)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(200):
        found = intervals([predictions(seed=seed)], bins=10, resamples=300, seed=seed)["uar"]
        held += found.low <= 0.8 <= found.high

    assert 0.90 <= held / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval() -> None:
    first, again, other = (intervals([predictions()], bins=10, resamples=200, seed=seed) for seed in (1, 1, 2))

    assert first == again != other


def test_the_mean_over_folds_is_surer_than_one_fold() -> None:
    widths = [
        found.high - found.low
        for folds in ([predictions(seed=1)], [predictions(seed=1), predictions(seed=2)])
        for found in [intervals(folds, bins=10, resamples=1000, seed=0)["uar"]]
    ]

    assert widths[1] < 0.85 * widths[0]


def test_a_model_does_not_differ_from_itself() -> None:
    found = differences([predictions()], [predictions()], bins=10, resamples=200, seed=0)["uar"]

    assert (found.value, found.interval.low, found.interval.high, found.p) == (0, 0, 0, 1)


def test_a_better_model_is_found_better_and_noise_is_not() -> None:
    better = differences([predictions(accuracy=0.95)], [predictions(accuracy=0.6)], bins=10, resamples=1000, seed=0)[
        "uar"
    ]
    assert better.interval.low > 0
    assert better.p < 0.01

    found = [
        differences([predictions(seed=n)], [predictions(seed=n + 500)], bins=10, resamples=300, seed=0)["uar"].p < 0.05
        for n in range(100)
    ]
    assert np.mean(found) <= 0.12


def test_p_counts_the_observed_sample() -> None:
    first, second = predictions(accuracy=1.0), predictions(accuracy=0.2)

    found = differences([first], [second], bins=10, resamples=199, seed=0)["uar"]

    assert found.interval.low > 0
    assert found.p == pytest.approx(2 / 200)


def test_interval_is_unknown_with_one_word_per_speaker() -> None:
    fold, other = predictions(words=1), predictions(words=1, seed=1)

    found = intervals([fold], bins=10, resamples=100, seed=0)["uar"]
    difference = differences([fold], [other], bins=10, resamples=100, seed=0)["uar"]
    everyone = [np.ones((len(fold.truth), 1), bool)]
    [share] = bootstrap.share_intervals([fold], everyone, everyone, resamples=100, seed=0)

    assert (found.is_known, found.as_list(), found.text()) == (False, [None, None], bootstrap.UNKNOWN)
    assert not bootstrap.Interval.from_list(found.as_list()).is_known
    assert not difference.interval.is_known
    assert np.isnan(difference.p)
    assert share is not None
    assert not share.is_known
    assert intervals([predictions(words=2)], bins=10, resamples=100, seed=0)["uar"].is_known


def test_other_utterances_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="the same utterances"):
        differences([predictions()], [predictions(words=39)], bins=10, resamples=10, seed=0)


def test_repeats_are_pooled_so_that_the_interval_holds_the_chance_of_their_making() -> None:
    repeats = [[predictions(seed=seed, accuracy=accuracy)] for seed, accuracy in enumerate((0.5, 0.6, 0.7, 0.8, 0.9))]

    pooled = bootstrap.pooled_intervals(repeats, bins=10, resamples=1000, seed=0)["uar"]
    single = intervals(repeats[2], bins=10, resamples=1000, seed=0)["uar"]

    assert pooled.low < 0.55
    assert pooled.high > 0.85
    assert pooled.high - pooled.low > 1.5 * (single.high - single.low)
    ahead = bootstrap.pooled_differences([predictions(accuracy=1.0)], repeats, bins=10, resamples=1000, seed=0)["uar"]
    points = [metrics(one.truth, one.probabilities, LABELS, bins=10)["uar"] for (one,) in repeats]
    assert ahead.value == pytest.approx(1 - np.mean(points))


def test_shares_have_the_interval_of_the_metric_that_they_are() -> None:
    fold = predictions()
    among = np.stack([fold.truth == label for label in range(3)] + [np.zeros(len(fold.truth), bool)], axis=1)
    right = (fold.probabilities.argmax(axis=1) == fold.truth)[:, None]

    angry, *_, nothing = bootstrap.share_intervals([fold], [among & right], [among], resamples=2000, seed=1)

    accuracy = intervals([fold], bins=10, resamples=2000, seed=1)["accuracy"]
    assert nothing is None
    assert angry is not None
    # every label of a word stands and falls with the word, so a label's recall varies as the accuracy does
    assert (angry.low, angry.high) == pytest.approx((accuracy.low, accuracy.high), abs=1e-9)
