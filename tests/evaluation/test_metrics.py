import numpy as np
import pytest

from speech_emotion.evaluation.metrics import (
    brier,
    confusion,
    expected_calibration_error,
    mean_of,
    metrics,
    reliability,
    uncalibrated,
)

LABELS = ("angry", "happy", "sad")


def test_metrics_of_predictions_counted_by_hand() -> None:
    truth = np.array([0, 0, 0, 1, 2])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.5, 0.2]])

    found = metrics(truth, probabilities, LABELS, bins=10)

    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["recall"] == pytest.approx({"angry": 2 / 3, "happy": 1.0, "sad": 0.0})
    assert found["uar"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["macro_f1"] == pytest.approx((0.8 + 0.5 + 0) / 3)
    assert found["nll"] == pytest.approx(-np.log([0.8, 0.6, 0.1, 0.7, 0.2]).mean())
    assert found["utterances"] == 5


def test_a_label_that_does_not_occur_takes_no_part_in_the_average() -> None:
    found = metrics(np.array([0, 1]), np.array([[0.9, 0.05, 0.05], [0.1, 0.1, 0.8]]), LABELS, bins=5)

    assert found["uar"] == pytest.approx(0.5)
    assert set(found["recall"]) == {"angry", "happy"}


def test_certain_and_right_costs_nothing_and_certain_and_wrong_a_finite_amount() -> None:
    right = metrics(np.array([0, 1, 2]), np.eye(3), LABELS, bins=10)
    wrong = metrics(np.array([1, 2, 0]), np.eye(3), LABELS, bins=10)

    assert (right["accuracy"], right["brier"], right["ece"]) == (1.0, 0.0, 0.0)
    assert right["nll"] == pytest.approx(0, abs=1e-9)
    assert (wrong["brier"], wrong["ece"]) == (2.0, 1.0)
    assert np.isfinite(wrong["nll"])


def test_calibration_error_is_zero_where_confidence_is_the_share_that_is_right() -> None:
    probabilities = np.tile([0.75, 0.25], (4, 1))

    assert expected_calibration_error(np.array([0, 0, 0, 1]), probabilities, bins=10) == 0


def test_calibration_error_weighs_each_bin_by_its_size() -> None:
    probabilities = np.array([[0.9, 0.1]] * 3 + [[0.6, 0.4]])

    found = expected_calibration_error(np.array([0, 0, 1, 0]), probabilities, bins=10)

    assert found == pytest.approx((3 * abs(2 / 3 - 0.9) + abs(1 - 0.6)) / 4)


def test_reliability_has_the_bins_that_hold_anything_and_their_gaps_are_the_calibration_error() -> None:
    probabilities = np.array([[0.9, 0.1]] * 3 + [[0.6, 0.4]])
    truth = np.array([0, 0, 1, 0])

    unsure, sure = reliability(truth, probabilities, bins=10)

    assert (unsure.low, unsure.utterances, unsure.accuracy) == (0.6, 1, 1.0)
    assert (sure.low, sure.utterances) == (0.9, 3)
    assert sure.accuracy == pytest.approx(2 / 3)
    gaps = sum(one.utterances * abs(one.accuracy - one.confidence) for one in (unsure, sure)) / 4
    assert gaps == pytest.approx(expected_calibration_error(truth, probabilities, bins=10))


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.7])
def test_calibration_is_undone_exactly(temperature: float) -> None:
    logits = np.random.default_rng(1).normal(0, 5, (50, 4))

    def softmax(values: np.ndarray) -> np.ndarray:
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    assert uncalibrated(softmax(logits / temperature), temperature) == pytest.approx(softmax(logits), abs=1e-9)


def test_brier_of_knowing_nothing() -> None:
    assert brier(np.array([0, 1]), np.full((2, 2), 0.5)) == pytest.approx(0.5)


def test_confusion_has_truth_by_row() -> None:
    counts = confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)

    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_mean_gives_each_fold_the_same_weight() -> None:
    folds = [
        metrics(np.zeros(n, int), np.tile(row, (n, 1)), LABELS, bins=5) for n, row in ((3, [1, 0, 0]), (9, [0, 1, 0]))
    ]

    assert mean_of(folds)["accuracy"] == 0.5
