"""Copy or download the recordings of the corpus to data/NAME/raw, complete or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.core.process import run_stage
from speech_emotion.data.corpora import open_corpus


def main() -> None:
    # the name is not an argument: reading the section checks it, and a shell would not
    corpus = read_section("corpus", CorpusSettings)
    open_corpus(corpus, read_section("download", DownloadSettings)).fetch(Path("data", corpus.name, "raw"))
    link_for_experiments(corpus.source)


def link_for_experiments(source: str) -> None:
    """Link a source outside the repository, such as `../recordings`, to where temporary experiments look for it.

    `dvc exp run --temp` works in `.dvc/tmp/exps/standalone/NAME` and the queue in `.dvc/tmp/exps/NAME`.
    """
    for folder in (".dvc/tmp/exps", ".dvc/tmp/exps/standalone"):
        link = Path(os.path.normpath(Path(folder, "NAME", source)))
        if source.startswith("..") and link.is_relative_to(".dvc/tmp"):
            with suppress(OSError):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)  # of another source; a folder stays
                link.symlink_to(Path(source).resolve())


if __name__ == "__main__":
    run_stage(main)
