"""models + reports → MLflow: a run for every training, a registered version of the package, `challenger` on it."""

from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings
from speech_emotion.core.process import run_stage
from speech_emotion.registry.publish import publish


def main() -> None:
    corpus = read_section("corpus", CorpusSettings).name
    for line in publish(Path(), corpus=corpus).lines:
        print(f"publish: {line}")


if __name__ == "__main__":
    run_stage(main)
