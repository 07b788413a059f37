"""recordings + manifest → pictures of the corpus."""

import sys
from pathlib import Path

from speech_emotion.corpora import manifest as manifests
from speech_emotion.portrait import portray
from speech_emotion.stage import run_stage


def main() -> None:
    raw, manifest, target = map(Path, sys.argv[1:])
    portray(manifests.read(manifest), raw, target)
    print(f"portray: {target}")


if __name__ == "__main__":
    run_stage(main)
