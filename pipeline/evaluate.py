"""Evaluate every protocol: metrics, predictions, plots, robustness, audio statistics and ONNX parity."""

import sys
from functools import partial
from itertools import islice
from pathlib import Path

import pandas as pd

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings, SplitSettings
from speech_emotion.config.evaluation import EvaluateSettings, RobustnessSettings
from speech_emotion.config.params import ComputeSettings
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.process import SCRATCH, run_stage
from speech_emotion.core.progress import track
from speech_emotion.core.tables import write_table
from speech_emotion.data import splits
from speech_emotion.evaluation import protocol_report, robustness
from speech_emotion.features.frames import StoredFrames
from speech_emotion.features.store import FeatureStore
from speech_emotion.inference.onnx_parity import check_agreement
from speech_emotion.models.package import Package
from speech_emotion.monitoring import audio_stats


def main() -> None:
    raw, features, split_folder, models, target, stats = map(Path, sys.argv[1:])
    protocols = read_section("split", SplitSettings).protocols
    workers = read_section("compute", ComputeSettings).workers
    store = FeatureStore(features)
    files = [split_folder / f"{protocol}.csv" for protocol in protocols]
    results = {}
    for split in files:
        result = protocol_report.evaluate_protocol(
            split,
            models=models / split.stem,
            store=store,
            settings=read_section("evaluate", EvaluateSettings),
            target=target / "protocols" / split.stem,
            workers=workers,
        )
        mean = result.metrics["mean"]
        print(f"evaluate: {split.stem}: UAR {mean['uar']:.4f}, accuracy {mean['accuracy']:.4f}, ECE {mean['ece']:.4f}")
        results[split.stem] = result
    protocol_report.write_overview(results, target)
    measure_robustness(files, raw, models, target / "robustness", workers=workers)
    if "full" in protocols:
        check_parity(store, models / "full" / splits.ONE_FOLD)
        write_table(stats, describe_recordings(split_folder / "full.csv", raw, workers=workers))


def measure_robustness(files: list[Path], raw: Path, models: Path, target: Path, *, workers: int | None) -> None:
    """Predict modified recordings; those of left-out and test speakers are predicted only as recorded."""
    settings = read_section("robustness", RobustnessSettings)
    cases = {
        split: robustness.cases(split, models=models / split.stem, raw=raw, settings=settings)
        for split in files
        if split.stem not in ("speaker", "corpus") and not (split.stem == "full" and splits.read(split)[0].test)
    }
    every = [case for own in cases.values() for case in own]
    work = parallel_map(partial(robustness.predict, seed=settings.seed), every, workers=workers)
    predicted = track(work, len(every), "robustness", "recordings")
    evaluate = read_section("evaluate", EvaluateSettings)
    tables = [
        robustness.score(split.stem, own, list(islice(predicted, len(own))), splits.utterances(split), evaluate)
        for split, own in cases.items()
    ]
    table = pd.concat([pd.DataFrame(columns=robustness.COLUMNS), *tables], ignore_index=True)
    robustness.write(table, target, corpus=read_section("corpus", CorpusSettings).name)
    if table.empty:
        print("evaluate: robustness: not measured, every protocol is evaluated on left-out or test speakers")
        return
    worst = table.iloc[int(table["drop"].argmax())]
    print(f"evaluate: robustness: largest drop {worst['drop']:.3f} ({worst['protocol']}, {worst['condition']})")


def check_parity(store: FeatureStore, package: Path) -> None:
    """Compare the ONNX graph that ships with the Keras network, on every utterance."""
    own = store.narrowed(Package.load(package).description.features)
    difference = check_agreement(package, StoredFrames((frames for _, frames in own.utterances()), SCRATCH))
    print(f"evaluate: ONNX and Keras agree to {difference:.1e} on every utterance")


def describe_recordings(split: Path, raw: Path, *, workers: int | None) -> pd.DataFrame:
    """Return the audio statistics of each recording, with its part in the split `full`."""
    [fold] = splits.read(split)
    parts = {splits.TRAIN: fold.train, splits.VALIDATION: fold.validation, splits.TEST: fold.test}
    part = {name: part for part, ids in parts.items() for name in ids}
    rows = splits.utterances(split).drop(columns=["sex", "sha256"])
    return audio_stats.table(rows.assign(part=rows["id"].map(part)), raw, workers=workers)


if __name__ == "__main__":
    run_stage(main)
