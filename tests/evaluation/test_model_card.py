import json
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_package import LABELS, make_package
from speech_emotion.evaluation.model_card import ROBUSTNESS, Training, abridged, reading, worst_emotion, write
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


def test_the_sections_of_a_model_card_are_there(description: Description) -> None:
    text = write(description, EVIDENCE, kind="tess", training=TRAINING)

    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "In short",
        "The model",
        "What it is for",
        "What it is not for",
        "How good it is",
        "By voice and emotion",
        "What it learned from",
        "Ethics",
        "Time and carbon",
        "Licence",
        "Where it comes from",
    ]


def test_figures_come_from_the_evidence_with_their_intervals(description: Description) -> None:
    text = write(description, EVIDENCE, kind="tess", training=TRAINING)

    assert "| speaker | a voice that it has never heard | 0.500 (0.490 to 0.510)" in text
    assert "| speaker | B | 0.60 | 0.30 | 0.60 |" in text


def test_equal_values_give_equal_text(description: Description) -> None:
    assert write(description, EVIDENCE, kind="demo", training=TRAINING) == write(
        description, json.loads(json.dumps(EVIDENCE)), kind="demo", training=TRAINING
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("tess", "two actresses who act, in one sentence"),
        ("demo", "a speech synthesiser's"),
        ("folder", "It knows the voices, sentences and rooms of its own recordings"),
    ],
)
def test_what_the_data_cannot_support_is_said_first(description: Description, kind: Any, said: str) -> None:
    text = write(description, EVIDENCE, kind=kind, training=TRAINING)

    assert said in text.partition("## The model")[0]


def test_the_new_voice_is_read_before_the_flattering_figures(description: Description) -> None:
    lines = reading(description, EVIDENCE)

    assert lines[0].startswith("**A voice that it has never heard:** 50 % of each emotion's recordings")
    assert "49 % to 51 %; guessing gives 33 %" in lines[0]
    assert "happy:** 10 % (A) and 30 % (B)" in lines[1]


def test_a_package_that_can_say_not_sure_says_from_when_on(description: Description) -> None:
    rejection = Rejection(threshold=0.62, risk=0.1, coverage=0.7)

    [line] = [
        line for line in reading(description.model_copy(update={"rejection": rejection}), EVIDENCE) if "sure”" in line
    ]

    assert "below a confidence of 0.62" in line
    assert "70 % of the answers were above it, and 10 % of those were wrong" in line


def test_without_a_new_voice_none_is_claimed(description: Description) -> None:
    text = write(description, {"word": EVIDENCE["word"]}, kind="folder", training=TRAINING)

    assert "never heard:**" not in text


def test_robustness_is_a_table_of_its_own(description: Description) -> None:
    found = {"speaker": {"telephone": {"uar": 0.4, "drop": 0.1}}}

    text = write(description, {**EVIDENCE, ROBUSTNESS: found}, kind="tess", training=TRAINING)

    assert "| speaker | telephone | 0.400 | 0.100 |" in text


def test_the_worst_emotion_is_that_of_the_lowest_mean_recall() -> None:
    assert worst_emotion(EVIDENCE["speaker"]) == ("happy", {"A": 0.1, "B": 0.3})


def test_energy_follows_from_weights_frames_and_epochs() -> None:
    assert TRAINING.operations == 6 * 1000 * 360_000 * 10
    assert TRAINING.watt_hours == pytest.approx(21.6 / 3600)


def test_an_abridged_card_ends_with_a_whole_section_and_says_where_the_rest_is(description: Description) -> None:
    text = write(description, EVIDENCE, kind="tess", training=TRAINING)

    short = abridged(text, 3000)

    assert len(short) <= 3000
    assert short.endswith("The whole card is `MODEL_CARD.md` in the package.\n")
    assert text.startswith(short.partition("\n\nThe whole card")[0])
    assert abridged(text, len(text)) == text
