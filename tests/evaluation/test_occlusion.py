from pathlib import Path

import numpy as np
import pytest

from helpers.tiny_package import FEATURES, make_package
from speech_emotion.evaluation.occlusion import groups, occlude_groups, occlude_time
from speech_emotion.inference.recognizer import Recognizer

COEFFICIENTS = FEATURES.n_mfcc


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    """A network on the mean frame."""
    make_package(tmp_path / "package")
    return Recognizer.load(tmp_path / "package")


@pytest.fixture
def mean_frame() -> np.ndarray:
    return np.zeros(COEFFICIENTS, np.float32)


def test_feature_groups() -> None:
    mfcc = [f"mfcc_{name}" for name in ("1", "4", "5", "13", "30", "1_delta", "1_delta_delta")]

    found = {name: columns.tolist() for name, columns in groups([*mfcc, "f0", "alpha_ratio"]).items()}

    assert found == {
        "c1 to c4": [0, 1],
        "c5 to c12": [2],
        "c13 to c24": [3],
        "c25 and up": [4],
        "deltas": [5, 6],
        "f0": [7],
        "alpha ratio": [8],
    }


def test_important_pieces(recognizer: Recognizer, mean_frame: np.ndarray) -> None:
    frames = np.zeros((50, COEFFICIENTS), np.float32)
    frames[10:15, 7] = 400.0  # the third tenth

    time = occlude_time(recognizer, [frames], mean_frame).lost[0]
    columns = {"low": np.arange(5), "high": np.arange(5, COEFFICIENTS)}
    low, high = occlude_groups(recognizer, [frames], mean_frame, columns).lost[0]

    assert np.flatnonzero(np.abs(time) > 1e-5).tolist() == [2]
    assert low == pytest.approx(0, abs=1e-5)
    assert abs(high) > 1e-5
