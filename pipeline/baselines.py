"""recordings + manifest + splits → what simple models, and the reference model, say of every test utterance."""

import sys
from functools import partial
from pathlib import Path

import pandas as pd

from speech_emotion.config.base import read_section
from speech_emotion.config.compute import ComputeSettings
from speech_emotion.config.training import BaselinesSettings
from speech_emotion.core.io import replacing, replacing_folder
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.process import run_stage
from speech_emotion.core.progress import track
from speech_emotion.data import manifest as manifests
from speech_emotion.data import splits
from speech_emotion.models.baselines import SHORTCUTS, Known
from speech_emotion.models.reference_lstm import every_baseline, mean_mfcc, read_reference


def main() -> None:
    raw, manifest, split_folder, preset, target = map(Path, sys.argv[1:])
    settings = read_section("baselines", BaselinesSettings)
    workers = read_section("compute", ComputeSettings).workers
    reference = read_reference(preset, seed=settings.seed, epochs=settings.reference_epochs)
    rows = manifests.read(manifest)
    by_id = rows.set_index("id")
    # 3 ms a recording: another process would still be importing TensorFlow
    means = mean_mfcc(rows, raw, reference.featurize, workers=1)
    known = Known(by_id["emotion"], by_id[list(SHORTCUTS)], means)
    judged = [
        (split.stem, fold) for split in sorted(split_folder.glob("*.csv")) for fold in splits.read(split) if fold.test
    ]
    work = partial(every_baseline, known=known, reference=reference, shuffles=settings.shuffles)
    made = parallel_map(work, [fold for _, fold in judged], workers=workers)
    tables = list(track(made, len(judged), "baselines", "folds"))
    with replacing_folder(target) as folder:
        for name in dict.fromkeys(protocol for protocol, _ in judged):
            own = [table for (protocol, _), table in zip(judged, tables, strict=True) if protocol == name]
            with replacing(folder / f"{name}.csv") as aside:
                pd.concat(own).to_csv(aside, index=False, lineterminator="\n", float_format="%.6f")
    print(f"baselines: {len(judged)} folds of {len({protocol for protocol, _ in judged})} protocols")


if __name__ == "__main__":
    run_stage(main)
