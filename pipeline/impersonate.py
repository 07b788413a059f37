"""raw recordings + manifest + splits → features of validation utterances in the voices of pseudo-speakers."""

import sys
from pathlib import Path

from speech_emotion import splits
from speech_emotion.corpora import manifest as manifests
from speech_emotion.extraction import shard_tasks, write_store
from speech_emotion.files import replacing_folder
from speech_emotion.impersonation import Impersonated
from speech_emotion.settings.base import read_section
from speech_emotion.settings.compute import ComputeSettings
from speech_emotion.settings.featurize import FeaturizeSettings
from speech_emotion.settings.pseudo_speakers import PseudoSpeakersSettings
from speech_emotion.stage import run_stage


def main() -> None:
    raw, manifest, split_folder, target = map(Path, sys.argv[1:])
    settings = read_section("featurize", FeaturizeSettings)
    pseudo_speakers = read_section("pseudo_speakers", PseudoSpeakersSettings)
    compute = read_section("compute", ComputeSettings)
    held_back = {
        name for split in split_folder.glob("*.csv") for fold in splits.read(split) for name in fold.validation
    }
    rows = manifests.read(manifest)
    rows = rows[rows["id"].isin(held_back)]
    emotions = dict(zip(rows["id"], rows["emotion"], strict=True))
    with replacing_folder(target) as folder:
        tasks = [
            task
            for voice in pseudo_speakers.voices
            for task in shard_tasks(
                list(rows["id"]),
                list(rows["path"]),
                raw=raw,
                folder=folder,
                settings=settings,
                rendition=Impersonated(voice, pseudo_speakers.seed, pseudo_speakers.acting, emotions),
            )
        ]
        write_store(target, folder, tasks, settings, pseudo_speakers.model_dump(mode="json"), compute=compute)
    print(f"impersonate: {len(rows)} validation utterances in {len(pseudo_speakers.voices)} voices each")


if __name__ == "__main__":
    run_stage(main)
