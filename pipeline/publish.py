"""models + reports → MLflow: a run for every training, a registered version of the package, `challenger` on it."""

from pathlib import Path

from speech_emotion.publishing import publish
from speech_emotion.settings.base import read_section
from speech_emotion.settings.corpus import CorpusSettings
from speech_emotion.stage import run_stage


def main() -> None:
    corpus = read_section("corpus", CorpusSettings).name
    for line in publish(Path(), corpus=corpus).lines:
        print(f"publish: {line}")


if __name__ == "__main__":
    run_stage(main)
