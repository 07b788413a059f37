from pathlib import Path

import numpy as np
import pytest

from helpers.examples import featurize_settings
from helpers.tiny_package import FEATURES, make_package
from speech_emotion.evaluation.occlusion import first_frame, groups, occlude_groups, occlude_time, occlusion_map
from speech_emotion.inference.recognizer import Recognizer

COEFFICIENTS = FEATURES.n_mfcc


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    """A network that looks at the mean frame alone."""
    make_package(tmp_path / "package")
    return Recognizer.load(tmp_path / "package")


@pytest.fixture
def nothing() -> np.ndarray:
    return np.zeros(COEFFICIENTS, np.float32)


def test_features_are_grouped_by_what_they_are() -> None:
    names = [
        "mfcc_1",
        "mfcc_4",
        "mfcc_5",
        "mfcc_13",
        "mfcc_30",
        "mfcc_1_delta",
        "mfcc_1_delta_delta",
        "f0",
        "alpha_ratio",
    ]

    found = {name: columns.tolist() for name, columns in groups(names).items()}

    assert found == {
        "c1 to c4": [0, 1],
        "c5 to c12": [2],
        "c13 to c24": [3],
        "c25 and up": [4],
        "deltas": [5, 6],
        "f0": [7],
        "alpha ratio": [8],
    }


def test_every_feature_is_in_one_group() -> None:
    names = [f"mfcc_{number}" for number in range(40)]

    columns = np.concatenate(list(groups(names).values()))

    assert sorted(columns) == list(range(40))


def test_the_stretch_that_carries_the_answer_is_found(recognizer: Recognizer, nothing: np.ndarray) -> None:
    frames = np.zeros((50, COEFFICIENTS), np.float32)
    frames[10:15] = 400.0  # the third tenth; the rest says nothing

    found = occlude_time(recognizer, [frames], nothing)

    assert found.lost.shape == (1, 10)
    assert int(found.lost[0].argmax()) == 2
    assert np.allclose(np.delete(found.lost[0], 2), 0, atol=1e-5)


def test_the_group_that_carries_the_answer_is_found(recognizer: Recognizer, nothing: np.ndarray) -> None:
    frames = np.zeros((20, COEFFICIENTS), np.float32)
    frames[:, 7] = 300.0
    columns = {"low": np.arange(5), "high": np.arange(5, COEFFICIENTS)}

    found = occlude_groups(recognizer, [frames], nothing, columns)

    assert found.lost[0, 0] == pytest.approx(0, abs=1e-5)
    assert found.lost[0, 1] > 0.1


def test_answers_that_change_are_counted_as_such(recognizer: Recognizer, nothing: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    frames = [np.repeat(rng.normal(0, 400, (1, COEFFICIENTS)), 12, axis=0).astype(np.float32) for _ in range(20)]
    everything = {"all": np.arange(COEFFICIENTS)}

    found = occlude_groups(recognizer, frames, nothing, everything)

    # with all hidden, every utterance is the same silence and has the same answer
    [left] = {int(answer) for answer, changed in zip(found.answers, found.changed[:, 0], strict=True) if not changed}
    assert (found.changed[:, 0] == (found.answers != left)).all()


def test_a_moving_window_finds_the_place(recognizer: Recognizer, nothing: np.ndarray) -> None:
    frames = np.zeros((60, COEFFICIENTS), np.float32)
    frames[40:44] = 400.0

    found = occlusion_map(recognizer, frames, nothing, {"all": np.arange(COEFFICIENTS)}, width=6, step=2)

    assert found.shape == (2, 30)
    assert 38 <= 2 * int(found[0].argmax()) <= 44
    assert np.allclose(found[0], found[1], atol=1e-6)  # one group is all there is


def test_the_frames_themselves_stay_as_they_are(recognizer: Recognizer, nothing: np.ndarray) -> None:
    frames = np.ones((20, COEFFICIENTS), np.float32)

    occlude_time(recognizer, [frames], nothing)

    assert (frames == 1).all()


def test_what_was_cut_off_before_the_features_is_counted() -> None:
    rng = np.random.default_rng(0)
    wave = np.concatenate([np.zeros(3200), 0.3 * rng.standard_normal(8000), np.zeros(3200)]).astype(np.float32)

    assert first_frame(wave, featurize_settings()) == 0
    assert 8 <= first_frame(wave, featurize_settings(trim_db=40.0)) <= 10  # 320 samples a frame
