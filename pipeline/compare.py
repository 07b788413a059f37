"""the model's and the baselines' predictions → the protocol table, as CSV, Markdown and a picture."""

import sys
from pathlib import Path

import pandas as pd

from speech_emotion.config.base import read_section
from speech_emotion.config.data import PROTOCOLS, CorpusSettings
from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.process import run_stage
from speech_emotion.evaluation.comparison import RECALL_COLUMNS, compare, read_contest, recall_rows, write_table


def main() -> None:
    reports, baselines, target = map(Path, sys.argv[1:])
    settings = read_section("evaluate", EvaluateSettings)
    corpus = read_section("corpus", CorpusSettings)
    found = sorted(baselines.glob("*.csv"), key=lambda table: PROTOCOLS.index(table.stem))
    contests = [read_contest(table.stem, reports / table.stem, table) for table in found]
    rows = [row for contest in contests for row in compare(contest, settings)]
    recall = [recall_rows(contest, settings) for contest in contests]
    empty = pd.DataFrame(columns=list(RECALL_COLUMNS))
    write_table(rows, pd.concat([empty, *recall], ignore_index=True) if recall else empty, target, corpus=corpus.name)
    print(f"compare: {len(rows)} rows, {len(found)} protocols")


if __name__ == "__main__":
    run_stage(main)
