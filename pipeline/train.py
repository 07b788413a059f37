"""Train every fold of every protocol, in parallel, one core per training."""

import logging
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings, SplitSettings
from speech_emotion.config.params import ComputeSettings
from speech_emotion.config.training import CalibrateSettings, TrainSettings
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.process import run_stage
from speech_emotion.data import splits
from speech_emotion.features.store import FeatureStore


@dataclass(frozen=True)
class Task:
    """One fold to train."""

    split: Path
    fold: splits.Fold
    target: Path


def train_one(task: Task, *, features: Path, settings: tuple[CorpusSettings, TrainSettings, CalibrateSettings]) -> Path:
    """Train one fold in this process and return its folder."""
    from speech_emotion.models.cross_validation import Experiment, train_fold

    # a process trains several networks, so TensorFlow would warn about retracing
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    experiment = Experiment(
        corpus=settings[0],
        protocol=task.split.stem,
        settings=settings[1],
        calibrate=settings[2],
        features=FeatureStore(features),
        split=task.split,
    )
    train_fold(experiment, task.fold, task.target)
    return task.target


def main() -> None:
    features, split_folder, target = map(Path, sys.argv[1:])
    protocols = read_section("split", SplitSettings).protocols
    settings = (
        read_section("corpus", CorpusSettings),
        read_section("train", TrainSettings),
        read_section("calibrate", CalibrateSettings),
    )
    tasks = [
        Task(split, fold, target / split.stem / fold.name)
        for split in (split_folder / f"{protocol}.csv" for protocol in protocols)
        for fold in splits.read(split)
    ]
    # the longest first, so that no core waits long for the last one
    tasks.sort(key=lambda task: -len(task.fold.train))
    work = partial(train_one, features=features, settings=settings)
    done = list(parallel_map(work, tasks, workers=read_section("compute", ComputeSettings).workers))
    print(f"train: {len(done)} models in {target}")


if __name__ == "__main__":
    run_stage(main)
