import numpy as np
import pytest

from speech_emotion.evaluation.metrics import expected_calibration_error, mean_of, metrics, reliability

LABELS = ("angry", "happy", "sad")


def test_metrics() -> None:
    truth = np.array([0, 0, 0, 1, 2])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.5, 0.2]])

    found = metrics(truth, probabilities, LABELS, bins=10)

    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["recall"] == pytest.approx({"angry": 2 / 3, "happy": 1.0, "sad": 0.0})
    assert found["uar"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["macro_f1"] == pytest.approx((0.8 + 0.5 + 0) / 3)
    assert found["nll"] == pytest.approx(-np.log([0.8, 0.6, 0.1, 0.7, 0.2]).mean())
    assert found["brier"] == pytest.approx(((probabilities - np.eye(3)[truth]) ** 2).sum() / 5)
    assert found["utterances"] == 5


def test_absent_label_is_left_out() -> None:
    found = metrics(np.array([0, 1]), np.array([[0.9, 0.05, 0.05], [0.1, 0.1, 0.8]]), LABELS, bins=5)

    assert found["uar"] == pytest.approx(0.5)
    assert set(found["recall"]) == {"angry", "happy"}


def test_certain_predictions() -> None:
    right = metrics(np.array([0, 1, 2]), np.eye(3), LABELS, bins=10)
    wrong = metrics(np.array([1, 2, 0]), np.eye(3), LABELS, bins=10)

    assert (right["accuracy"], right["brier"], right["ece"]) == (1.0, 0.0, 0.0)
    assert right["nll"] == pytest.approx(0, abs=1e-9)
    assert (wrong["brier"], wrong["ece"]) == (2.0, 1.0)
    assert np.isfinite(wrong["nll"])


def test_reliability_bins() -> None:
    probabilities = np.array([[0.9, 0.1]] * 3 + [[0.6, 0.4]])
    truth = np.array([0, 0, 1, 0])

    found = reliability(truth, probabilities, bins=10)

    assert found[["low", "utterances"]].to_numpy().tolist() == [[0.6, 1], [0.9, 3]]
    assert found["accuracy"].tolist() == pytest.approx([1.0, 2 / 3])
    gap = (found["utterances"] * (found["accuracy"] - found["confidence"]).abs()).sum() / 4
    assert gap == pytest.approx(expected_calibration_error(truth, probabilities, bins=10))
    assert gap == pytest.approx((3 * abs(2 / 3 - 0.9) + abs(1 - 0.6)) / 4)


def test_mean_weighs_folds_equally() -> None:
    sizes = ((3, [1, 0, 0]), (9, [0, 1, 0]))
    folds = [metrics(np.zeros(n, int), np.tile(row, (n, 1)), LABELS, bins=5) for n, row in sizes]

    assert mean_of(folds)["accuracy"] == 0.5
