"""features + pseudo-speakers + the speaker split → the value of a parameter that pseudo-speakers prefer."""

import json
import sys
from pathlib import Path
from typing import Any

from speech_emotion import splits
from speech_emotion.compute import parallel_map
from speech_emotion.corpora import manifest as manifests
from speech_emotion.experiment import Experiment
from speech_emotion.progress import track
from speech_emotion.settings.base import read_section
from speech_emotion.settings.calibrate import CalibrateSettings
from speech_emotion.settings.compute import ComputeSettings
from speech_emotion.settings.corpus import CorpusSettings
from speech_emotion.settings.sweep import SweepSettings
from speech_emotion.settings.train import TrainSettings
from speech_emotion.stage import run_stage
from speech_emotion.store import FeatureStore
from speech_emotion.sweep import Heard, chosen, heard, present_value, write
from speech_emotion.tuning.space import Space


def main() -> None:
    """Train every value on every speaker fold, and write what pseudo-speakers say of it."""
    name = sys.argv[1]
    manifest, features, pseudo_speakers, split, params, target = map(Path, sys.argv[2:])
    asked = read_section(name, SweepSettings, params)
    train = read_section("train", TrainSettings)
    present = present_value(train, asked)
    space = Space({}, train)
    corpus = read_section("corpus", CorpusSettings)
    experiments = [
        (
            value,
            Experiment(
                corpus=corpus,
                protocol="speaker",
                settings=space.settings({"train.seed": seed, asked.parameter: value}),
                manifest=manifests.read(manifest),
                features=FeatureStore(features),
                split=split,
                pseudo_features=FeatureStore(pseudo_speakers),
                calibrate=read_section("calibrate", CalibrateSettings),
            ),
        )
        for seed in asked.seeds
        for value in asked.values
    ]
    tasks = [(value, fold, experiment) for value, experiment in experiments for fold in splits.read(split)]
    made = parallel_map(_heard, tasks, workers=read_section("compute", ComputeSettings).workers)
    found = list(track(made, len(tasks), "sweep", "trainings"))
    best = chosen(found, present)
    write(found, asked, target, best=best, corpus=corpus.name)
    if best == present:
        print(f"sweep: nothing is clearly better than {asked.parameter} = {json.dumps(best)}, as params.yaml has it")
    else:
        print(f"sweep: pseudo-speakers clearly prefer {asked.parameter} = {json.dumps(best)} to what params.yaml has")


def _heard(task: tuple[Any, splits.Fold, Experiment]) -> Heard:
    return heard(*task)


if __name__ == "__main__":
    run_stage(main)
