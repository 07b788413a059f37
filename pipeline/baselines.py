"""Predict every test part with simple models and the reference model, and look for mislabelled recordings."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from speech_emotion.config.base import read_section
from speech_emotion.config.evaluation import ExplainSettings
from speech_emotion.config.params import ComputeSettings
from speech_emotion.config.training import BaselinesSettings
from speech_emotion.core.io import replacing_folder
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.process import run_stage
from speech_emotion.core.progress import track
from speech_emotion.core.tables import read_table, write_table
from speech_emotion.data import splits
from speech_emotion.evaluation import label_issues
from speech_emotion.models.baselines import as_table, classical, with_references


def predict(
    fold: splits.Fold, *, emotions: pd.Series, table: pd.DataFrame, settings: BaselinesSettings, preset: Path | None
) -> pd.DataFrame:
    """Return the predictions of the baselines of a fold; without a preset, not those of the reference model."""
    found = classical(fold, emotions, table, seed=settings.seed, shuffles=settings.shuffles)
    if preset is not None:
        # TensorFlow is imported only for this model
        from speech_emotion.models.reference_lstm import predict_reference, read_reference

        reference = read_reference(preset, seed=settings.seed, epochs=settings.reference_epochs)
        means = table.loc[:, table.columns.str.startswith("mean_")]
        found["reference"] = (predict_reference(fold, means, emotions, reference),)
    return as_table(found, fold)


def main() -> None:
    functionals, split_folder, preset, target = map(Path, sys.argv[1:])
    settings = read_section("baselines", BaselinesSettings)
    workers = read_section("compute", ComputeSettings).workers
    table = read_table(functionals).set_index("id").astype(np.float64)
    files = sorted(split_folder.glob("*.csv"))
    # only `full` has the test speakers, which baselines do not use
    utterances = splits.utterances(files[-1]).set_index("id")
    folds = [(split.stem, fold) for split in files if split.stem != "full" for fold in splits.read(split)]
    mixed = bool((utterances["corpus"] != "").any())
    if mixed:
        print("baselines: without the reference model and the control with shuffled labels, which are slow on a mix")
        settings = settings.model_copy(update={"reference_epochs": 0, "shuffles": 0})
    work = partial(
        predict,
        emotions=utterances["emotion"],
        table=table,
        settings=settings,
        preset=None if settings.reference_epochs == 0 else preset,
    )
    done = parallel_map(work, [fold for _, fold in folds], workers=workers)
    tables = list(track(done, len(folds), "baselines", "folds"))
    with replacing_folder(target) as folder:
        for name in dict.fromkeys(protocol for protocol, _ in folds):
            own = [table for (protocol, _), table in zip(folds, tables, strict=True) if protocol == name]
            write_table(folder / f"{name}.csv", pd.concat(own))
            if mixed and (utterances["speaker"] != "").all():
                enrol = partial(with_references, utterances=utterances, table=table, seed=settings.seed)
                made = parallel_map(enrol, [fold for protocol, fold in folds if protocol == name], workers=workers)
                write_table(folder / f"{name}_enrolled.csv", pd.concat(made))
        explain = read_section("explain", ExplainSettings)
        simple = table.loc[:, ~table.columns.str.startswith("loud_")]
        found = label_issues.find(simple, utterances, folds=explain.folds, seed=explain.seed)
        write_table(folder / "label_issues.csv", found)
    print(f"baselines: {len(folds)} folds of {len({protocol for protocol, _ in folds})} protocols")


if __name__ == "__main__":
    run_stage(main)
