"""Copy or download the recordings of the corpus to data/NAME/raw, complete or not at all."""

from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.core.process import run_stage
from speech_emotion.data.corpora import open_corpus


def main() -> None:
    # the name is not an argument: reading the section checks it, and a shell would not
    corpus = read_section("corpus", CorpusSettings)
    open_corpus(corpus, read_section("download", DownloadSettings)).fetch(Path("data", corpus.name, "raw"))


if __name__ == "__main__":
    run_stage(main)
