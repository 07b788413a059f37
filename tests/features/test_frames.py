"""Frames in a file equal those in memory."""

from pathlib import Path

import numpy as np
import pytest

from speech_emotion.features.frames import ChosenFrames, StoredFrames, lengths_of

RNG = np.random.default_rng(0)
FRAMES = [RNG.standard_normal((count, 3)).astype(np.float32) for count in (4, 1, 7)]


@pytest.fixture
def stored(tmp_path: Path) -> StoredFrames:
    return StoredFrames(iter(FRAMES), tmp_path)


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def test_index_slice_and_iteration(stored: StoredFrames) -> None:
    assert same(list(stored), FRAMES)
    assert same([stored[-1]], FRAMES[-1:])
    assert same(list(stored[1:]), FRAMES[1:])
    assert lengths_of(stored).tolist() == lengths_of(FRAMES).tolist() == [4, 1, 7]
    with pytest.raises(IndexError):
        stored[3]


def test_ordered_view(stored: StoredFrames) -> None:
    turned = stored.ordered([2, 0, 2])

    assert same(list(turned), [FRAMES[2], FRAMES[0], FRAMES[2]])
    assert lengths_of(turned).tolist() == [7, 4, 7]


def test_chosen_from_several_sources(stored: StoredFrames) -> None:
    chosen = ChosenFrames([FRAMES, stored], [(1, 2), (0, 1)])

    assert same(list(chosen), [FRAMES[2], FRAMES[1]])
    assert lengths_of(chosen).tolist() == [7, 1]
