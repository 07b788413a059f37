import json
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_package import LABELS, make_package
from speech_emotion.evaluation.model_card import ROBUSTNESS, Training, reading, worst_emotion, write
from speech_emotion.models.package import Description, Rejection

TRAINING = Training(epochs=10, weights=1000, frames=360_000)


def metrics(uar: float, recalls: dict[str, dict[str, float]]) -> dict[str, Any]:
    values = {"uar": uar, "accuracy": uar, "macro_f1": uar, "nll": 1.0, "brier": 0.5, "ece": 0.08}
    mean = values | {"interval": {name: [value - 0.01, value + 0.01] for name, value in values.items()}}
    return {"mean": mean, "folds": {name: mean | {"recall": recall} for name, recall in recalls.items()}}


EVIDENCE = {
    "word": metrics(0.99, {"all": dict.fromkeys(LABELS, 0.99)}),
    "speaker": metrics(
        0.5, {"A": {"angry": 0.9, "happy": 0.1, "sad": 0.5}, "B": {"angry": 0.6, "happy": 0.3, "sad": 0.6}}
    ),
}


@pytest.fixture
def description(tmp_path: Path) -> Description:
    return make_package(tmp_path / "package").description


def test_sections(description: Description) -> None:
    text = write(description, EVIDENCE, kind="tess", training=TRAINING)

    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "Summary",
        "Model",
        "Intended use",
        "Not intended use and limits",
        "Performance",
        "Recall by speaker and emotion",
        "Training data",
        "Ethics",
        "Training cost",
        "Licence",
        "Provenance",
    ]


def test_figures_have_intervals(description: Description) -> None:
    text = write(description, EVIDENCE, kind="tess", training=TRAINING)

    assert "| speaker | an unseen speaker | 0.500 (0.490 to 0.510)" in text
    assert "| speaker | B | 0.60 | 0.30 | 0.60 |" in text


def test_card_is_deterministic(description: Description) -> None:
    assert write(description, EVIDENCE, kind="demo", training=TRAINING) == write(
        description, json.loads(json.dumps(EVIDENCE)), kind="demo", training=TRAINING
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("tess", "two actresses and one carrier phrase"),
        ("demo", "The speech is synthetic"),
        ("folder", "knows the speakers, sentences and rooms of its own recordings"),
    ],
)
def test_limits_of_the_data_are_in_the_summary(description: Description, kind: Any, said: str) -> None:
    text = write(description, EVIDENCE, kind=kind, training=TRAINING)

    assert said in text.partition("## Model")[0]


def test_unseen_speaker_comes_first(description: Description) -> None:
    lines = reading(description, EVIDENCE)

    assert lines[0].startswith("**Unseen speaker:** UAR 50 % (95 % interval 49 % to 51 %; chance 33 %)")
    assert "happy, 10 % (A) and 30 % (B)" in lines[1]


def test_threshold_is_in_the_card(description: Description) -> None:
    rejection = Rejection(threshold=0.62, risk=0.1, coverage=0.7)

    text = write(description.model_copy(update={"rejection": rejection}), EVIDENCE, kind="folder", training=TRAINING)

    assert "Below a confidence of 0.62" in text


def test_without_speaker_protocol(description: Description) -> None:
    text = write(description, {"word": EVIDENCE["word"]}, kind="folder", training=TRAINING)

    assert "**Unseen speaker" not in text


def test_robustness_table(description: Description) -> None:
    found = {"speaker": {"telephone": {"uar": 0.4, "drop": 0.1}}}

    text = write(description, {**EVIDENCE, ROBUSTNESS: found}, kind="tess", training=TRAINING)

    assert "| speaker | telephone | 0.400 | 0.100 |" in text


def test_worst_emotion() -> None:
    assert worst_emotion(EVIDENCE["speaker"]) == ("happy", {"A": 0.1, "B": 0.3})


def test_energy() -> None:
    assert TRAINING.operations == 6 * 1000 * 360_000 * 10
    assert TRAINING.watt_hours == pytest.approx(21.6 / 3600)
