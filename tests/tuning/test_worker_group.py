import os
import time
from functools import partial
from pathlib import Path

from helpers.jobs import tell
from speech_emotion.core.parallel import THREADS, core_count
from speech_emotion.tuning.worker_group import worker_group


def test_workers_divide_the_cores(tmp_path: Path) -> None:
    before = {name: os.environ.get(name) for name in THREADS}  # a process that has loaded TensorFlow has set some

    with worker_group(partial(tell, tmp_path), ["one", "two"]) as workers:
        assert not workers.wait(60)

    threads = str(max(1, core_count() // 2))
    assert (tmp_path / "one").read_text().split() == [threads] * len(THREADS)
    assert workers.losses == []
    assert {name: os.environ.get(name) for name in THREADS} == before


def test_killed_worker_does_not_stop_the_others(tmp_path: Path) -> None:
    with worker_group(partial(tell, tmp_path), ["dies", "lives"]) as workers:
        assert not workers.wait(60)

    assert (tmp_path / "lives").exists()
    assert ["was killed by signal 9" in loss for loss in workers.losses] == [True]


def test_workers_end_with_the_block() -> None:
    with worker_group(time.sleep, [600.0]) as workers:
        assert workers.wait(0.2)

    assert "was killed" in workers.losses[0]
