"""recordings + manifest → pictures of the corpus."""

import sys
from pathlib import Path

from speech_emotion.core.process import run_stage
from speech_emotion.data import manifest as manifests
from speech_emotion.evaluation.corpus_plots import portray


def main() -> None:
    raw, manifest, target = map(Path, sys.argv[1:])
    portray(manifests.read(manifest), raw, target)
    print(f"portray: {target}")


if __name__ == "__main__":
    run_stage(main)
