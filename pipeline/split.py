"""Write train, validation and test parts: one table per protocol."""

import sys
from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.data import SplitSettings
from speech_emotion.core.process import run_stage
from speech_emotion.data import manifest as manifests
from speech_emotion.data import splits


def main() -> None:
    manifest, target = map(Path, sys.argv[1:])
    settings = read_section("split", SplitSettings)
    rows = manifests.read(manifest)
    for protocol in settings.protocols:
        split = splits.make(rows, protocol, settings)
        splits.write(target / f"{protocol}.csv", split)
        print(f"split: {protocol}: " + ", ".join(f"{n} {part}" for part, n in split["part"].value_counts().items()))
        for fold, part in split.groupby("fold"):
            for label in sorted(set(part["emotion"]) - set(part.loc[part["part"] == splits.TRAIN, "emotion"])):
                print(f"split: {protocol}, fold '{fold}': no other corpus has '{label}', so it is never predicted")


if __name__ == "__main__":
    run_stage(main)
