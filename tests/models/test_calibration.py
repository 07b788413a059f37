"""Temperature and rejection: fitted values do what they promise on the data that they were fitted on."""

import numpy as np
import pytest
from scipy.special import softmax

from speech_emotion.evaluation.metrics import expected_calibration_error
from speech_emotion.models.calibration import fit_rejection, fit_temperature, risk_coverage


def answers(*, sharpness: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that are `sharpness` times those under which the truth was drawn, and the truth."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, (count, 5))
    truth = np.array([rng.choice(5, p=row) for row in softmax(honest, axis=1)])
    return sharpness * honest, truth


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_takes_back_what_made_a_model_too_sure(sharpness: float) -> None:
    logits, truth = answers(sharpness=sharpness)

    assert fit_temperature(logits, truth) == pytest.approx(sharpness, rel=0.06)


def test_calibration_brings_confidence_to_accuracy() -> None:
    logits, truth = answers(sharpness=3.0)
    before = expected_calibration_error(truth, softmax(logits, axis=1), bins=15)
    after = expected_calibration_error(truth, softmax(logits / fit_temperature(logits, truth), axis=1), bins=15)

    assert before > 0.15
    assert after < 0.03


def test_sure_answers_are_wrong_no_more_often_than_was_accepted() -> None:
    logits, truth = answers(sharpness=1.0)
    probabilities = softmax(logits, axis=1)
    found = fit_rejection(probabilities, truth, risk=0.1)

    sure = probabilities.max(axis=1) >= found.threshold
    assert (probabilities.argmax(axis=1) != truth)[sure].mean() == pytest.approx(found.risk, abs=1e-6)
    assert found.risk <= 0.1
    assert found.coverage == pytest.approx(sure.mean(), abs=1e-6)
    assert 0.05 < found.coverage < 0.95


def test_a_model_that_is_always_right_is_always_sure() -> None:
    truth = np.array([0, 1, 2])

    assert fit_rejection(0.6 * np.eye(3) + 0.4 / 3, truth, risk=0.1).coverage == 1.0


def test_a_model_that_is_never_right_is_never_sure() -> None:
    probabilities = np.tile([0.9, 0.1], (10, 1))

    assert fit_rejection(probabilities, np.ones(10, dtype=int), risk=0.1).coverage == 0.0


def test_risk_falls_with_coverage_where_confidence_means_something() -> None:
    logits, truth = answers(sharpness=1.0)
    probabilities = softmax(logits, axis=1)
    coverage, risk = risk_coverage(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)

    assert coverage[-1] == 1.0
    assert risk[len(risk) // 10] < 0.5 * risk[-1]
