"""Temperature and threshold of calibration."""

import numpy as np
import pytest
from scipy.special import softmax

from speech_emotion.models.calibration import fit_rejection, fit_temperature, risk_coverage


def drawn(*, sharpness: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, `sharpness` times those the truth was drawn from, and the truth."""
    rng = np.random.default_rng(0)
    exact = rng.normal(0, 1.5, (count, 5))
    truth = np.array([rng.choice(5, p=row) for row in softmax(exact, axis=1)])
    return sharpness * exact, truth


@pytest.mark.parametrize(("sharpness", "expected"), [(0.5, 1.0), (1.0, 1.0), (3.0, 3.0)])
def test_temperature_only_softens(sharpness: float, expected: float) -> None:
    logits, truth = drawn(sharpness=sharpness)

    assert fit_temperature(logits, truth) == pytest.approx(expected, rel=0.06)


def test_threshold_keeps_the_risk() -> None:
    logits, truth = drawn(sharpness=1.0)
    probabilities = softmax(logits, axis=1)
    found = fit_rejection(probabilities, truth, risk=0.1)

    sure = probabilities.max(axis=1) >= found.threshold
    assert (probabilities.argmax(axis=1) != truth)[sure].mean() == pytest.approx(found.risk, abs=1e-6)
    assert found.risk <= 0.1
    assert found.coverage == pytest.approx(sure.mean(), abs=1e-6)
    assert 0.05 < found.coverage < 0.95


@pytest.mark.parametrize(("truth", "coverage"), [([0, 0], 1.0), ([1, 1], 0.0)])
def test_threshold_of_extremes(truth: list[int], coverage: float) -> None:
    assert fit_rejection(np.tile([0.9, 0.1], (2, 1)), np.array(truth), risk=0.1).coverage == coverage


def test_risk_falls_with_coverage_where_confidence_means_something() -> None:
    logits, truth = drawn(sharpness=1.0)
    probabilities = softmax(logits, axis=1)
    coverage, risk = risk_coverage(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)

    assert coverage[-1] == 1.0
    assert risk[len(risk) // 10] < 0.5 * risk[-1]
