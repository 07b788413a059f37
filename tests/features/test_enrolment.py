import numpy as np
import pytest

from speech_emotion.config.features import ReferenceSettings
from speech_emotion.features.enrolment import LIMIT, References, shift

STATISTICS = (np.zeros(3), np.ones(3))
MEAN = np.array([1.0, -1.0, 0.5])


def test_longer_references_count_more() -> None:
    found = [shift(MEAN, frames, STATISTICS)[0] for frames in (10, 100, 1000, 100_000)]

    assert found == sorted(found)
    assert found[0] < 0.1
    assert found[-1] == pytest.approx(1, abs=0.01)


def test_what_is_subtracted_is_bounded() -> None:
    found = shift(1e6 * MEAN, 1000, STATISTICS)

    np.testing.assert_array_equal(np.abs(found), LIMIT)


def references(*, speakers: int = 4, utterances: int = 10) -> References:
    """Return utterances of one frame each, whose only feature is the number of their speaker plus a small noise."""
    names = np.repeat([f"S{number}" for number in range(speakers)], utterances)
    level = np.repeat(np.arange(speakers, dtype=float), utterances)
    frames = [np.full((100, 3), one, np.float32) for one in level]
    return References.of([frames], names, np.arange(len(names)) % utterances == 0)


def drawn(settings: ReferenceSettings, seed: int = 0, **changes: int) -> np.ndarray:
    known = references(**changes)
    versions = np.zeros(len(known.speakers), int)
    return known.shifts(versions, settings, (np.zeros(3), np.full(3, 10.0)), np.random.default_rng(seed))


def test_references_are_of_the_same_speaker() -> None:
    found = drawn(ReferenceSettings(none=0.0, neutral=0.0, most=9)).reshape(4, 10, 3)

    assert (found[0] == 0).all()
    for number in (1, 2, 3):
        assert (found[number] > number * 0.3).all()
        assert (found[number] < number).all()


def test_an_utterance_is_no_reference_of_itself() -> None:
    assert (drawn(ReferenceSettings(none=0.0, neutral=0.0, most=9), utterances=1) == 0).all()


def test_share_without_reference() -> None:
    found = drawn(ReferenceSettings(none=0.3, neutral=0.5, most=9), speakers=40)[10:]

    assert (found == 0).all(axis=1).mean() == pytest.approx(0.3, abs=0.1)
