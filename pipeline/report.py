"""Compare the model with the baselines, explain it, draw the corpus, and write one report page."""

import sys
from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.data import PROTOCOLS, CorpusSettings
from speech_emotion.config.evaluation import EvaluateSettings, ExplainSettings
from speech_emotion.core.process import run_stage
from speech_emotion.core.tables import read_table
from speech_emotion.data.splits import TEST
from speech_emotion.evaluation import comparison, corpus_plots
from speech_emotion.evaluation.explain import explain
from speech_emotion.evaluation.protocol_report import PREDICTIONS
from speech_emotion.evaluation.report_page import write_page
from speech_emotion.models.package import Package


def main() -> None:
    raw, stats, package, reports = map(Path, sys.argv[1:])
    corpus = read_section("corpus", CorpusSettings)
    recordings = read_table(stats)
    tested = [name for name in PROTOCOLS if (reports / "baselines" / f"{name}.csv").is_file()]
    comparison.write_comparison(
        tested,
        reports=reports / "protocols",
        baselines=reports / "baselines",
        settings=read_section("evaluate", EvaluateSettings),
        target=reports / "comparison",
        corpus=corpus.name,
    )
    corpus_plots.draw_corpus(recordings[recordings["part"] != TEST], raw, reports / "corpus")
    predictions = {name: read_table(reports / "protocols" / name / PREDICTIONS) for name in tested}
    explain(
        reports / "explanation",
        recordings=recordings,
        raw=raw,
        package=package,
        predictions=predictions,
        settings=read_section("explain", ExplainSettings),
    )
    page = reports / "report.html"
    write_page(page, recordings=recordings, package=Package.load(package), reports=reports, corpus=corpus)
    print(f"report: {page}, {page.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_stage(main)
