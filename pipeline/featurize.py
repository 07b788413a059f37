"""Extract features: MFCC and prosody shards with augmented copies, and functionals for the baselines."""

import sys
from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.features import AugmentSettings, FeaturizeSettings
from speech_emotion.config.params import ComputeSettings
from speech_emotion.core.io import replacing, replacing_folder
from speech_emotion.core.process import run_stage
from speech_emotion.features.augmentation import Copy
from speech_emotion.features.extract import Recorded, UtteranceVersion, shard_tasks, write_store


def main() -> None:
    # imported here: every worker imports this script again and needs neither pandas nor the reference model
    from speech_emotion.config.base import parse_section, read_params
    from speech_emotion.data import manifest as manifests
    from speech_emotion.features.functionals import functionals

    raw, manifest, preset, target, table = map(Path, sys.argv[1:])
    settings = read_section("featurize", FeaturizeSettings)
    augment = read_section("augment", AugmentSettings)
    compute = read_section("compute", ComputeSettings)
    rows = manifests.read(manifest)
    with replacing_folder(target) as folder:
        versions: list[UtteranceVersion] = [Recorded(), *(Copy(augment, number) for number in range(augment.copies))]
        tasks = [
            task
            for version in versions
            for task in shard_tasks(
                *(list(rows[column]) for column in ("id", "path")),
                raw=raw,
                folder=folder,
                settings=settings,
                version=version,
            )
        ]
        frames = write_store(target, folder, tasks, settings, augment.model_dump(mode="json"), compute=compute)
    reference = parse_section("featurize", FeaturizeSettings, read_params(preset)["featurize"], preset)
    summary = functionals(rows, raw, reference, workers=compute.workers)
    with replacing(table) as partial:
        summary.to_csv(partial, index=False, lineterminator="\n", float_format="%.6g")
    print(f"featurize: {len(rows)} utterances, {augment.copies} copies of each, {frames} frames")


if __name__ == "__main__":
    run_stage(main)
