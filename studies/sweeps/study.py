"""features + pseudo-speakers + the speaker split → what of the training pseudo-speakers would have otherwise."""

import sys
from dataclasses import replace
from pathlib import Path

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
from speech_emotion.sweep import Candidate, Heard, ahead, candidates, chosen, heard, write
from speech_emotion.tuning.space import Space


def main() -> None:
    """Train every value on every speaker fold, seed by seed, and write what pseudo-speakers say of it."""
    name = sys.argv[1]
    manifest, features, pseudo_speakers, split, params, target = map(Path, sys.argv[2:])
    asked = read_section(name, SweepSettings, params)
    train = read_section("train", TrainSettings)
    present, trained = candidates(train, asked)
    space = Space({}, train)
    base = Experiment(
        corpus=read_section("corpus", CorpusSettings),
        protocol="speaker",
        settings=train,
        manifest=manifests.read(manifest),
        features=FeatureStore(features),
        split=split,
        pseudo_features=FeatureStore(pseudo_speakers),
        calibrate=read_section("calibrate", CalibrateSettings),
    )
    # all settings before the first training: a value that training refuses is to be told at once
    settings = {
        seed: [(one, space.settings({"train.seed": seed, **one.changes})) for one in trained] for seed in asked.seeds
    }
    found: list[Heard] = []
    for seed, of_seed in settings.items():
        left = [present, *ahead(found, present)] if found and asked.leave_behind else trained
        if left == [present]:
            break
        tasks = [
            (one, fold, replace(base, settings=its))
            for one, its in of_seed
            if one in left
            for fold in splits.read(split)
        ]
        made = parallel_map(_heard, tasks, workers=read_section("compute", ComputeSettings).workers)
        found += track(made, len(tasks), f"sweep, seed {seed}", "trainings")
    write(found, target, present=present, corpus=base.corpus.name)
    best = chosen(found, present)
    if best == present:
        print("sweep: nothing is clearly better than what params.yaml has")
    else:
        print(f"sweep: pseudo-speakers clearly prefer {best} to what params.yaml has")


def _heard(task: tuple[Candidate, splits.Fold, Experiment]) -> Heard:
    return heard(*task)


if __name__ == "__main__":
    run_stage(main)
