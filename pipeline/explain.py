"""packages + splits + recordings → what the model listens to, as tables and pictures."""

import sys
from pathlib import Path

import pandas as pd

from speech_emotion.config.base import read_section
from speech_emotion.config.compute import ComputeSettings
from speech_emotion.config.evaluation import ExplainSettings
from speech_emotion.core.process import run_stage
from speech_emotion.data import manifest as manifests
from speech_emotion.data import splits
from speech_emotion.evaluation.explain import Case, explain
from speech_emotion.features.store import FeatureStore


def main() -> None:
    raw, manifest, features, split_folder, models, reports, target = map(Path, sys.argv[1:])
    folds = {path.stem: splits.read(path) for path in sorted(split_folder.glob("*.csv"))}
    predictions = {
        protocol: pd.read_csv(
            reports / protocol / "predictions.csv", dtype={"fold": str, "text": str}, keep_default_na=False
        )
        for protocol, found in folds.items()
        if found[0].test
    }
    case = Case(
        manifest=manifests.read(manifest),
        raw=raw,
        store=FeatureStore(features),
        folds=folds,
        models=models,
        predictions=predictions,
        settings=read_section("explain", ExplainSettings),
        workers=read_section("compute", ComputeSettings).workers,
    )
    explain(case, target)
    print(f"explain: {target}")


if __name__ == "__main__":
    run_stage(main)
