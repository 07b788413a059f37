"""Fetch the recordings of the corpus, complete or not at all."""

import argparse
from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.core.process import run_stage
from speech_emotion.data.corpora import open_corpus


def main() -> None:
    parser = argparse.ArgumentParser(description="Bring the recordings of the corpus here, byte for byte.")
    parser.add_argument("raw", type=Path, help="the folder that they are written to")
    arguments = parser.parse_args()
    corpus = read_section("corpus", CorpusSettings)
    download = read_section("download", DownloadSettings)
    open_corpus(corpus, download).fetch(arguments.raw)


if __name__ == "__main__":
    run_stage(main)
