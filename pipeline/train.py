"""features + a protocol's split → a trained, calibrated package a fold."""

import sys
from pathlib import Path

from speech_emotion import splits
from speech_emotion.corpora import manifest as manifests
from speech_emotion.experiment import Experiment, train_fold
from speech_emotion.settings.base import read_section
from speech_emotion.settings.calibrate import CalibrateSettings
from speech_emotion.settings.corpus import CorpusSettings
from speech_emotion.settings.train import TrainSettings
from speech_emotion.stage import run_stage
from speech_emotion.store import FeatureStore


def main() -> None:
    protocol = sys.argv[1]
    manifest, features, split, target = map(Path, sys.argv[2:])
    experiment = Experiment(
        corpus=read_section("corpus", CorpusSettings),
        protocol=protocol,
        settings=read_section("train", TrainSettings),
        manifest=manifests.read(manifest),
        features=FeatureStore(features),
        split=split,
        calibrate=read_section("calibrate", CalibrateSettings),
    )
    for fold in splits.read(split):
        train_fold(experiment, fold, target / fold.name)


if __name__ == "__main__":
    run_stage(main)
