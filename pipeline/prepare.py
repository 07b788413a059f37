"""Check every recording and write the manifest, one row per utterance, and the list of bad recordings."""

import argparse
from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings, PrepareSettings, SplitSettings
from speech_emotion.config.params import ComputeSettings
from speech_emotion.core.process import alone, run_stage
from speech_emotion.data.corpora import open_corpus
from speech_emotion.data.manifest import BAD_RECORDINGS, check, write
from speech_emotion.data.recording_checks import build, describe, refuse_bad
from speech_emotion.data.splits import refuse_unsupported


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("raw", type=Path, help="the recordings from the stage download")
    arguments.add_argument("out", type=Path, help="the folder for manifest.csv and bad_recordings.csv")
    paths = arguments.parse_args()

    corpus = read_section("corpus", CorpusSettings)
    settings = read_section("prepare", PrepareSettings)
    workers = read_section("compute", ComputeSettings).workers
    with alone("prepare") as scratch:
        found = build(open_corpus(corpus), paths.raw, settings=settings, labels=corpus.labels, workers=workers)
        print(describe(found), flush=True)
        refuse_bad(found, settings, report=scratch / BAD_RECORDINGS)
        check(found.good, str(paths.raw))
        # before features are computed: the result does not depend on it
        refuse_unsupported(found.good, read_section("split", SplitSettings))
        write(paths.out, found)


if __name__ == "__main__":
    run_stage(main)
