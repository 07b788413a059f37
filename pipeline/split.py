"""manifest → one file of ids a protocol: train, validation, test."""

import sys
from pathlib import Path

from speech_emotion import splits
from speech_emotion.corpora import manifest as manifests
from speech_emotion.settings.base import read_section
from speech_emotion.settings.split import SplitSettings
from speech_emotion.stage import run_stage


def main() -> None:
    manifest, target = map(Path, sys.argv[1:])
    settings = read_section("split", SplitSettings)
    rows = manifests.read(manifest)
    for protocol in settings.protocols:
        split = splits.make(rows, protocol, settings)
        splits.write(target / f"{protocol}.csv", split)
        print(f"split: {protocol}: " + ", ".join(f"{n} {part}" for part, n in split["part"].value_counts().items()))


if __name__ == "__main__":
    run_stage(main)
