"""Takes nothing; prints how long a fixed list of trials takes with 1 and with 2 workers of this machine, and the ratio.

    python benchmarks/tuning.py [--trials 8] [--repeats 1]

The corpus is made up: sequences of numbers of the length of TESS's, so that it runs anywhere. The trials are the same
in both runs, and every run is a study of its own, from nothing to its report; MLflow goes to a database beside it.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import tuned  # noqa: E402
from speech_emotion.compute import core_count  # noqa: E402
from speech_emotion.settings.compute import ComputeSettings  # noqa: E402
from speech_emotion.tuning.search import search  # noqa: E402
from speech_emotion.tuning.study import finished, open_study, storage_of  # noqa: E402

LIMIT = 0.65
"""Of the time of one worker, that two may take on two cores."""


def main() -> None:
    """Measure, and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--trials", type=int, default=8)
    arguments.add_argument("--repeats", type=int, default=1)
    given = arguments.parse_args()
    print(f"{core_count()} cores, {given.trials} trials a run")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(given.repeats):
        for workers, measured in seconds.items():
            measured.append(timed(workers, given.trials))
            print(f"{workers} worker{'s' * (workers > 1)}: {measured[-1]:.1f} s")
    ratio = statistics.median(seconds[2]) / statistics.median(seconds[1])
    print(f"2 workers take {ratio:.2f} of the time of 1 (at most {LIMIT} on two free cores)")


def timed(workers: int, trials: int) -> float:
    """Return the seconds of a search over a list of trials that does not depend on the workers."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-tuning-"))
    before = Path.cwd()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.chdir(folder)
    try:
        asked: dict[str, Any] = {"trials": trials, "recipe": {"share": 1.0, "epochs": 6}}
        ground = tuned.make_ground(folder, words=60, frames=(80, 120), network={"lstm": (32, 32)}, **asked)
        # the first trial is that of the present settings
        listed: list[dict[str, object]] = [
            {
                "train.optimizer.learning_rate": 0.02 * number,
                "train.optimizer.momentum": 0.9,
                "train.network.dropout.lstm": 0.2,
            }
            for number in range(1, trials)
        ]
        began = time.perf_counter()
        search(ground, ComputeSettings(workers=workers), say=lambda _: None, queue=listed)
        taken = time.perf_counter() - began
        study = open_study(ground.study_name(), storage_of(ground.tune))
        assert len(finished(study.get_trials())) == trials
        return taken
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
