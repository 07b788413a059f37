"""recordings + the packages of the protocols + their splits → UAR when the recordings are changed."""

import sys
from functools import partial
from itertools import islice
from pathlib import Path

import pandas as pd

from speech_emotion.config.base import read_section
from speech_emotion.config.compute import ComputeSettings
from speech_emotion.config.data import PROTOCOLS, CorpusSettings
from speech_emotion.config.evaluation import EvaluateSettings, RobustnessSettings
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.process import run_stage
from speech_emotion.core.progress import track
from speech_emotion.data import manifest as manifests
from speech_emotion.data import splits
from speech_emotion.evaluation.robustness import ask, questions, score, write


def main() -> None:
    raw, manifest, split_folder, models, target = map(Path, sys.argv[1:])
    settings = read_section("robustness", RobustnessSettings)
    evaluate = read_section("evaluate", EvaluateSettings)
    corpus = read_section("corpus", CorpusSettings)
    workers = read_section("compute", ComputeSettings).workers
    rows = manifests.read(manifest)
    # a left-out speaker's utterances are kept for evaluate: a look at them here would be one more
    found = [
        split
        for split in sorted(split_folder.glob("*.csv"), key=lambda split: PROTOCOLS.index(split.stem))
        if split.stem != "speaker"
    ]
    asked = {
        split.stem: questions(
            splits.read(split),
            protocol=split.stem,
            models=models / split.stem,
            manifest=rows,
            raw=raw,
            settings=settings,
        )
        for split in found
    }
    # all protocols at once: workers take seconds to start
    together = [one for protocol in asked.values() for one in protocol]
    work = parallel_map(partial(ask, seed=settings.seed), together, workers=workers)
    answers = track(work, len(together), "robustness", "recordings")
    tables = [score(protocol, own, list(islice(answers, len(own))), rows, evaluate) for protocol, own in asked.items()]
    table = pd.concat(tables, ignore_index=True)
    write(table, target, corpus=corpus.name)
    worst = table.iloc[int(table["drop"].argmax())]
    print(f"robustness: the largest drop is {worst['drop']:.3f} ({worst['protocol']}, {worst['condition']})")


if __name__ == "__main__":
    run_stage(main)
