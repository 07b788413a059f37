"""Takes nothing; gives what a search costs beside its trainings, and how long 2 workers take for the trials of 1.

    python benchmarks/tuning.py [--trials 8]

The corpus is made up: sequences of numbers of the length of TESS's, so that it runs anywhere. The trials are the same
in all runs, and every run is a study of its own, from nothing; MLflow goes to a database beside it.
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
from speech_emotion.config.compute import ComputeSettings
from speech_emotion.models import cross_validation
from speech_emotion.tuning.objective import Ground
from speech_emotion.tuning.search import search
from speech_emotion.tuning.study import create, finished, open_study, storage_of
from speech_emotion.tuning.worker import work

EPOCHS: Final = 4


def main() -> None:
    """Measure, and write results/tuning.json."""
    parser = measuring.options(__doc__)
    parser.add_argument("--trials", type=int, default=4)
    given = parser.parse_args()
    trials = 2 if given.tiny else given.trials
    one, two = (_search(workers=workers, trials=trials, tiny=given.tiny) for workers in (1, 2))
    overheads = _overheads(max(1, trials // 2), tiny=given.tiny)
    measuring.write_figures(
        "tuning",
        [
            Figure("tuning overhead", Spread.of(overheads), note=f"per cent, {len(overheads)} trials"),
            Figure("tuning workers", Spread.of([two / one]), two, one, f"{trials} trials"),
        ],
        tiny=given.tiny,
    )


def _search(*, workers: int, trials: int, tiny: bool) -> float:
    """Search over a list of trials that does not depend on the workers; return the seconds until the last one's end.

    That is with the start of the workers, but without the report: one process draws it, however many there were.
    """
    with _ground(trials, tiny=tiny) as ground:
        # the first trial is that of the present settings
        listed = [_trial(number) for number in range(1, trials)]
        began = time.time()
        search(ground, ComputeSettings(workers=workers), say=lambda _: None, queue=listed)
        ended = finished(open_study(ground.study_name(), storage_of(ground.tune)).get_trials())
        assert len(ended) == trials
        return max(trial.datetime_complete.timestamp() for trial in ended if trial.datetime_complete) - began


def _overheads(trials: int, *, tiny: bool) -> list[float]:
    """Return what each trial of one worker takes beside `train`, in per cent of that.

    What the search hears of an epoch is taken as part of the search; the first trial, a warm-up, is left out.
    """
    taken: list[float] = []
    with _ground(trials + 1, tiny=tiny) as ground, _timed_training(taken):
        study = create(ground.study_name(), storage_of(ground.tune), ground.tune)
        for number in range(1, trials + 2):
            study.enqueue_trial(_trial(number))
        bounds = []
        for number in range(1, trials + 2):
            began, before = time.perf_counter(), sum(taken)
            work(tuned.shift(ground, trials=number, seconds=3600))
            bounds.append((time.perf_counter() - began, sum(taken) - before))
            assert bounds[-1][1] > 0, "the search trains by something else than what is timed here"
    return [100 * (whole - trained) / trained for whole, trained in bounds[1:]]


@contextmanager
def _timed_training(taken: list[float]) -> Iterator[None]:
    """Have `train` note the seconds that it takes, less those in which it tells the search of an epoch."""
    real = cross_validation.train

    def noted(*arguments: Any, on_epoch: Callable[[Any], None], **named: Any) -> Any:
        told: list[float] = []
        began = time.perf_counter()
        found = real(*arguments, on_epoch=lambda row: told.append(measuring.timed(partial(on_epoch, row))), **named)
        taken.append(time.perf_counter() - began - sum(told))
        return found

    cross_validation.train = noted
    try:
        yield
    finally:
        cross_validation.train = real


def _trial(number: int) -> dict[str, object]:
    return {
        "train.optimizer.learning_rate": 0.02 * number,
        "train.optimizer.momentum": 0.9,
        "train.network.dropout.lstm": 0.2,
    }


@contextmanager
def _ground(trials: int, *, tiny: bool) -> Iterator[Ground]:
    """Give a workspace of its own, as the working folder, in which a search can begin."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-tuning-"))
    before = Path.cwd()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.chdir(folder)
    size: dict[str, Any] = {"words": 60, "frames": (80, 120), "network": {"lstm": (32, 32)}}
    recipe = {"share": 1.0, "epochs": EPOCHS, "members": 1}
    if tiny:
        size, recipe = tuned.ONE_FOLD, recipe | {"epochs": 1}
    try:
        yield tuned.make_ground(folder, trials=trials, recipe=recipe, **size)
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    measuring.main(main)
