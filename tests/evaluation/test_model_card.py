from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_package import LABELS, make_package
from speech_emotion.evaluation.model_card import ROBUSTNESS, findings, question, write
from speech_emotion.models.package import Description, Rejection

TRAINING = {"epochs": 10, "weights": 1000, "frames": 360_000}


def metrics(uar: float, recalls: dict[str, dict[str, float]], *, speaker: float, text: float | None) -> dict[str, Any]:
    """Return the metrics of a protocol; `speaker` and `text` are the shares of unseen ones."""
    values = {"uar": uar, "accuracy": uar, "macro_f1": uar, "nll": 1.0, "brier": 0.5, "ece": 0.08}
    bounds = {"interval": {name: [value - 0.01, value + 0.01] for name, value in values.items()}}
    place = values | bounds | {"uncalibrated": values | bounds, "rejection": None}
    folds = {name: place | {"recall": recall, "speakers": {}} for name, recall in recalls.items()}
    return {"mean": place, "folds": folds, "unseen": {"speaker": speaker, "text": text}}


EVALUATION = {
    "word": metrics(0.99, {"all": dict.fromkeys(LABELS, 0.99)}, speaker=0.0, text=1.0),
    "speaker": metrics(
        0.5,
        {"A": {"angry": 0.9, "happy": 0.1, "sad": 0.5}, "B": {"angry": 0.6, "happy": 0.3, "sad": 0.6}},
        speaker=1.0,
        text=0.0,
    ),
}


@pytest.fixture
def description(tmp_path: Path) -> Description:
    return make_package(tmp_path / "package").description


def test_card(description: Description) -> None:
    rejecting = description.model_copy(update={"rejection": Rejection(threshold=0.62, risk=0.1, coverage=0.7)})
    robustness = {"speaker": {"telephone": {"uar": 0.4, "drop": 0.1}}}

    text = write(rejecting, {**EVALUATION, ROBUSTNESS: robustness}, kind="tess", training=TRAINING)

    assert "| speaker | an unseen speaker | 0.500 (0.490 to 0.510)" in text
    assert "| speaker | B | 0.60 | 0.30 | 0.60 |" in text
    assert "Below a confidence of 0.62" in text
    assert "| speaker | telephone | 0.400 | 0.100 |" in text


@pytest.mark.parametrize(
    ("protocol", "speaker", "text", "expected"),
    [
        ("speaker", 1.0, 0.0, "an unseen speaker"),
        ("word", 0.0, 1.0, "unseen texts of seen speakers"),
        ("random", 0.0, 0.0, "other recordings of seen speakers and texts"),
        ("random", 0.0, 0.4, "other recordings of seen speakers"),
        ("random", None, None, "other recordings"),
        ("full", 0.0, 1.0, "the validation part"),
    ],
)
def test_question_is_true_of_the_split(protocol: str, speaker: float, text: float, expected: str) -> None:
    assert question(protocol, {"unseen": {"speaker": speaker, "text": text}}, "folder") == expected


def test_findings_start_with_the_unseen_speaker(description: Description) -> None:
    good, whom, confident = findings(description, EVALUATION, "tess")

    assert (good.value, good.text) == ("50.0\N{NO-BREAK SPACE}%", "UAR on an unseen speaker, mean of 2 folds")
    assert whom.value == "99.0\N{NO-BREAK SPACE}%"
    assert "Lowest recall by fold: happy, 10 % (A) and 30 % (B)." in [note.replace("\xa0", " ") for note in whom.notes]
    assert confident.value == "8.0\N{NO-BREAK SPACE}points"
