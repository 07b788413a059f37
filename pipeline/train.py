"""features + a protocol's split → a trained, calibrated package a fold."""

import sys
from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings
from speech_emotion.config.training import CalibrateSettings, TrainSettings
from speech_emotion.core.process import run_stage
from speech_emotion.data import manifest as manifests
from speech_emotion.data import splits
from speech_emotion.features.store import FeatureStore
from speech_emotion.models.cross_validation import Experiment, train_fold


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
