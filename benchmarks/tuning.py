"""Measure the overhead of a search beside its trainings, and how two workers compare with one.

    python benchmarks/tuning.py [--trials 8]

The corpus is synthetic: sequences of numbers as long as those of TESS, so that the benchmark runs anywhere. The trials
are the same in all runs. Every run is a new study; MLflow uses a database in the same temporary folder.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import measuring
from measuring import Figure, Spread

sys.path.insert(0, str(measuring.ROOT / "tests"))

from helpers import tuned
from speech_emotion.config.params import ComputeSettings
from speech_emotion.models import cross_validation
from speech_emotion.tuning.objective import SearchInputs
from speech_emotion.tuning.search import search
from speech_emotion.tuning.study import Storage, create, finished
from speech_emotion.tuning.worker import work

EPOCHS: Final = 4


def main() -> None:
    """Measure, and write results/tuning.json."""
    parser = measuring.options(__doc__)
    parser.add_argument("--trials", type=int, default=4)
    options = parser.parse_args()
    trials = 2 if options.tiny else options.trials
    one, two = (_search(workers=workers, trials=trials, tiny=options.tiny) for workers in (1, 2))
    overheads = _overheads(max(1, trials // 2), tiny=options.tiny)
    measuring.write_figures(
        "tuning",
        [
            Figure("tuning overhead", Spread.of(overheads), note=f"per cent, {len(overheads)} trials"),
            Figure("tuning workers", Spread.of([two / one]), two, one, f"{trials} trials"),
        ],
        tiny=options.tiny,
    )


def _search(*, workers: int, trials: int, tiny: bool) -> float:
    """Search over fixed trials; return the seconds until the last one ends, including the start of workers."""
    with _workspace(trials, tiny=tiny) as inputs:
        # the first trial uses the current settings
        queue = [_trial(number) for number in range(1, trials)]
        start = time.time()
        search(inputs, ComputeSettings(workers=workers), log=lambda _: None, queue=queue)
        ended = finished(create(inputs.study_name(), Storage.of(inputs.tune), inputs.tune))
        assert len(ended) == trials
        return max(trial.datetime_complete.timestamp() for trial in ended if trial.datetime_complete) - start


def _overheads(trials: int, *, tiny: bool) -> list[float]:
    """Return how much longer each trial takes than its training, in per cent; the first, a warm-up, is left out.

    What the search does after an epoch counts as overhead.
    """
    trained: list[float] = []
    with _workspace(trials + 1, tiny=tiny) as inputs, _timed_training(trained):
        study = create(inputs.study_name(), Storage.of(inputs.tune), inputs.tune)
        for number in range(1, trials + 2):
            study.enqueue_trial(_trial(number))
        seconds = []
        for number in range(1, trials + 2):
            start, before = time.perf_counter(), sum(trained)
            work(tuned.worker_task(inputs, trials=number, seconds=3600))
            seconds.append((time.perf_counter() - start, sum(trained) - before))
            assert seconds[-1][1] > 0, "the search does not train with the function that is timed here"
    return [100 * (whole - training) / training for whole, training in seconds[1:]]


@contextmanager
def _timed_training(seconds: list[float]) -> Iterator[None]:
    """Record the seconds of each `train`, without those of its `on_epoch`."""
    train = cross_validation.train

    def timed(*arguments: Any, on_epoch: Callable[[Any], None], **named: Any) -> Any:
        reported: list[float] = []
        start = time.perf_counter()
        result = train(
            *arguments, on_epoch=lambda row: reported.append(measuring.timed(partial(on_epoch, row))), **named
        )
        seconds.append(time.perf_counter() - start - sum(reported))
        return result

    cross_validation.train = timed
    try:
        yield
    finally:
        cross_validation.train = train


def _trial(number: int) -> dict[str, object]:
    return {
        "train.optimizer.learning_rate": 0.02 * number,
        "train.optimizer.momentum": 0.9,
        "train.network.dropout.lstm": 0.2,
    }


@contextmanager
def _workspace(trials: int, *, tiny: bool) -> Iterator[SearchInputs]:
    """Make a temporary workspace the working folder, and yield the search in it."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-tuning-"))
    before = Path.cwd()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.chdir(folder)
    size: dict[str, Any] = {"words": 60, "frames": (80, 120), "network": {"lstm": (32, 32)}}
    recipe = {"share": 1.0, "epochs": EPOCHS}
    if tiny:
        size, recipe = tuned.ONE_FOLD, recipe | {"epochs": 1}
    try:
        yield tuned.make_inputs(folder, trials=trials, recipe=recipe, **size)
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    measuring.main(main)
