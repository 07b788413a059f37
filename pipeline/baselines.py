"""recordings + manifest + splits → what simple models, and the reference model, say of every test utterance."""

import sys
from pathlib import Path

import pandas as pd

from speech_emotion import splits
from speech_emotion.baselines import SHORTCUTS, Known, as_table, classical
from speech_emotion.corpora import manifest as manifests
from speech_emotion.files import replacing, replacing_folder
from speech_emotion.reference import mean_mfcc, predictions, read_reference
from speech_emotion.settings.base import read_section
from speech_emotion.settings.baselines import BaselinesSettings
from speech_emotion.stage import run_stage


def main() -> None:
    raw, manifest, split_folder, preset, target = map(Path, sys.argv[1:])
    settings = read_section("baselines", BaselinesSettings)
    reference = read_reference(preset, seed=settings.seed, epochs=settings.reference_epochs)
    rows = manifests.read(manifest)
    by_id = rows.set_index("id")
    # 3 ms a recording: another process would still be importing TensorFlow
    means = mean_mfcc(rows, raw, reference.featurize, workers=1)
    known = Known(by_id["emotion"], by_id[list(SHORTCUTS)], means)
    with replacing_folder(target) as folder:
        for split in sorted(split_folder.glob("*.csv")):
            tables = []
            for fold in splits.read(split):
                if not fold.test:
                    continue
                found = classical(fold, known, seed=settings.seed, shuffles=settings.shuffles)
                print(f"baselines: {split.stem}/{fold.name}: training the reference model", flush=True)
                found["reference"] = (
                    predictions(fold, known.mean_mfcc, known.emotions, reference.train, on_epoch=lambda row: None),
                )
                tables.append(as_table(found, fold))
            if tables:
                with replacing(folder / f"{split.stem}.csv") as aside:
                    pd.concat(tables).to_csv(aside, index=False, lineterminator="\n", float_format="%.6f")


if __name__ == "__main__":
    run_stage(main)
