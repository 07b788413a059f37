"""Build the package that is deployed: network, evaluation results, model card and reference data."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings
from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.config.monitoring import ReferenceDataSettings
from speech_emotion.config.serving import PackageSettings, WindowSettings
from speech_emotion.core.io import canonical_json
from speech_emotion.core.process import run_stage
from speech_emotion.core.tables import read_table
from speech_emotion.data.corpora import facts
from speech_emotion.data.splits import ONE_FOLD, TEST
from speech_emotion.evaluation import model_card
from speech_emotion.inference import windows
from speech_emotion.models.package import Package, assemble
from speech_emotion.monitoring import reference


def main() -> None:
    models, protocols, robustness, baselines, stats, target = map(Path, sys.argv[1:])
    full = models / "full" / ONE_FOLD
    limits = read_section("package", PackageSettings)
    settings = read_section("evaluate", EvaluateSettings)
    evaluation = model_card.read_evaluation(protocols, robustness, baselines, settings)
    description = Package.load(full).description.model_copy(update={"limits": limits})
    corpus = read_section("corpus", CorpusSettings)
    training = json.loads((full / "training.json").read_text(encoding="utf-8"))
    card = model_card.write(
        description,
        evaluation,
        kind=corpus.kind,
        training=training,
        corpora=corpus.corpora,
        altered=corpus.checksums == "ignore",
    )
    # only `evaluate` uses test speakers; the answers for left-out speakers stand for those of new ones
    answered = "speaker" if evaluation["full"]["part"] == TEST and "speaker" in evaluation else "full"
    package = assemble(
        full,
        evaluation,
        target,
        licence=facts(corpus.kind, corpus.corpora).weights_licence,
        limits=limits,
        beside={
            model_card.CARD: card,
            windows.FILE: canonical_json(read_section("windows", WindowSettings).model_dump(mode="json")),
            reference.FILE: reference.text(make_reference(stats, protocols / answered / "predictions.csv")),
        },
    )
    print(f"package: {package.digest[:12]}")


def make_reference(stats: Path, predictions: Path) -> reference.Reference:
    """Summarize the recordings, without those of test speakers, and the predictions of the evaluated part."""
    recordings = read_table(stats).astype(object)
    recordings = recordings[recordings["part"] != TEST]
    answers = read_table(predictions).rename(columns={"prediction": "label"})[["label", "sure", "confidence"]]
    return reference.make(
        records(recordings.where(recordings.notna(), None)),
        records(answers.round({"confidence": 3}).astype(object)),
        read_section("reference_data", ReferenceDataSettings),
    )


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.to_numpy().tolist()]


if __name__ == "__main__":
    run_stage(main)
