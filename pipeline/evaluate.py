"""the packages of a protocol + its split → metrics, predictions and pictures."""

import sys
from pathlib import Path
from typing import cast

from speech_emotion.config.base import read_section
from speech_emotion.config.data import Protocol
from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.process import run_stage
from speech_emotion.data import manifest as manifests
from speech_emotion.data import splits
from speech_emotion.evaluation.protocol_report import evaluate_folds
from speech_emotion.features.store import FeatureStore


def main() -> None:
    protocol = cast(Protocol, sys.argv[1])
    manifest, features, split, models, target = map(Path, sys.argv[2:])
    summary = evaluate_folds(
        splits.read(split),
        protocol=protocol,
        models=models,
        manifest=manifests.read(manifest),
        store=FeatureStore(features),
        settings=read_section("evaluate", EvaluateSettings),
        target=target,
    )
    mean = summary["mean"]
    print(f"evaluate: {protocol}: UAR {mean['uar']:.4f}, accuracy {mean['accuracy']:.4f}, ECE {mean['ece']:.4f}")


if __name__ == "__main__":
    run_stage(main)
