import json
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_package import LABELS, make_package
from speech_emotion.evaluation.model_card import ROBUSTNESS, Training, caveat, findings, worst_emotion, write
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


def test_figures_have_intervals(description: Description) -> None:
    text = write(description, EVIDENCE, kind="tess", training=TRAINING)

    assert "| speaker | an unseen speaker | 0.500 (0.490 to 0.510)" in text
    assert "| speaker | B | 0.60 | 0.30 | 0.60 |" in text


def test_card_is_deterministic(description: Description) -> None:
    again = json.loads(json.dumps(EVIDENCE))

    assert write(description, EVIDENCE, kind="demo", training=TRAINING) == write(
        description, again, kind="demo", training=TRAINING
    )


@pytest.mark.parametrize("kind", ["tess", "demo", "folder"])
def test_limits_of_the_data_are_in_the_summary(description: Description, kind: Any) -> None:
    text = write(description, EVIDENCE, kind=kind, training=TRAINING)

    assert caveat(kind) in text.partition("## Model")[0]


def test_findings_start_with_the_unseen_speaker(description: Description) -> None:
    good, whom, confident = findings(description, EVIDENCE)

    assert (good.value, good.text) == ("50.0\N{NO-BREAK SPACE}%", "UAR on an unseen speaker")
    assert whom.value == "99.0\N{NO-BREAK SPACE}%"
    assert "Lowest recall: happy, 10 % (A) and 30 % (B)." in [note.replace("\xa0", " ") for note in whom.notes]
    assert confident.value == "8.0\N{NO-BREAK SPACE}points"


def test_findings_without_speaker_protocol(description: Description) -> None:
    good, whom, _ = findings(description, {"word": EVIDENCE["word"]})

    assert good.value == whom.value == "99.0\N{NO-BREAK SPACE}%"
    assert "The corpus has no protocol for unseen speakers." in whom.notes


def test_threshold_is_in_the_card(description: Description) -> None:
    rejection = Rejection(threshold=0.62, risk=0.1, coverage=0.7)

    text = write(description.model_copy(update={"rejection": rejection}), EVIDENCE, kind="folder", training=TRAINING)

    assert "Below a confidence of 0.62" in text


def test_robustness_table(description: Description) -> None:
    found = {"speaker": {"telephone": {"uar": 0.4, "drop": 0.1}}}

    text = write(description, {**EVIDENCE, ROBUSTNESS: found}, kind="tess", training=TRAINING)

    assert "| speaker | telephone | 0.400 | 0.100 |" in text


def test_worst_emotion() -> None:
    assert worst_emotion(EVIDENCE["speaker"]) == ("happy", {"A": 0.1, "B": 0.3})


def test_energy() -> None:
    assert TRAINING.operations == 6 * 1000 * 360_000 * 10
    assert TRAINING.watt_hours == pytest.approx(21.6 / 3600)
