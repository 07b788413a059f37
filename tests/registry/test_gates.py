import json
import math
from pathlib import Path

import pytest

from speech_emotion.config.params import read_settings
from speech_emotion.config.registry import PromoteSettings, ProtocolGates, ProtocolsGates
from speech_emotion.registry.gates import at_least, at_most, of_card, of_protocols

CONDITIONS = {
    "noise at 20 dB": {"uar": 0.80, "drop": 0.10},
    "telephone band": {"uar": 0.65, "drop": 0.25},
    "gain of 12 dB": {"uar": 0.91, "drop": -0.01},
}


@pytest.fixture(scope="module")
def committed(root: Path) -> PromoteSettings:
    """The gates of the repository's params.yaml."""
    return read_settings(root / "params.yaml").promote


def asking(**limits: float | None) -> PromoteSettings:
    """Gates that ask of the protocol `word` only what is named."""
    of_word = ProtocolGates(**({"uar": None, "ece": None, "recall": None, "drop": None} | limits))
    return PromoteSettings(
        mode="enforce",
        protocols=ProtocolsGates(word=of_word),
        against_champion=(),
        latency_ms=None,
        package_mb=None,
        card=False,
        head=False,
    )


def test_a_gate_is_passed_at_its_limit_and_says_by_how_much_it_is_missed() -> None:
    assert at_least("a", 0.5, 0.5).passed
    assert at_most("b", 0.5, 0.5).passed
    assert at_least("a", 0.4, 0.5).sentence == "a: 0.4000, limit at least 0.5 (0.1000 below)"
    assert at_most("b", 0.7, 0.5, "of two").sentence == "b: 0.7000, limit at most 0.5 (0.2000 above; of two)"


@pytest.mark.parametrize("figure", [math.nan, None])
def test_what_is_no_number_passes_no_gate(figure: float | None) -> None:
    assert not at_least("a", figure, 0.0).passed
    assert not at_most("b", figure, 1.0).passed


def test_the_worst_condition_is_held_against_the_limit() -> None:
    [gate] = of_protocols({"robustness": {"word": CONDITIONS}}, asking(drop=0.2))

    assert gate.sentence == "word.drop: 0.2500, limit at most 0.2 (0.0500 above; worst: telephone band)"
    assert of_protocols({"robustness": {"word": CONDITIONS}}, asking(drop=0.25))[0].passed


def test_a_condition_without_a_figure_is_the_worst() -> None:
    conditions = {"a": {"uar": math.nan, "drop": math.nan}, **CONDITIONS}

    [gate] = of_protocols({"robustness": {"word": conditions}}, asking(drop=0.9))

    assert not gate.passed
    assert gate.detail.endswith("worst: a")


@pytest.mark.parametrize(
    "evidence",
    [
        {},
        {"robustness": {}},
        {"robustness": {"word": {}}},
        {"robustness": {"word": []}},
        {"robustness": {"word": {"x": 0.1}}},
        {"robustness": {"word": {"x": {"drop": None}}}},
        {"robustness": {"random": CONDITIONS}},
    ],
)
def test_a_package_that_was_not_tried_under_noise_fails_where_that_is_asked(evidence: dict) -> None:
    [gate] = of_protocols(evidence, asking(drop=1.0))

    assert (gate.figure, gate.passed) == ("-", False)
    assert gate.detail == "the package carries no evidence of robustness of the protocol word"
    assert of_protocols(evidence, asking()) == []


def test_a_card_has_to_be_there_and_say_something(tmp_path: Path) -> None:
    assert of_card(tmp_path).sentence == (
        "card: -, limit a MODEL_CARD.md (the package holds no MODEL_CARD.md: `dvc repro package` writes it)"
    )
    (tmp_path / "MODEL_CARD.md").write_text(" \n")
    assert not of_card(tmp_path).passed
    (tmp_path / "MODEL_CARD.md").write_text("# What it is\n")
    assert of_card(tmp_path).passed


def test_the_committed_results_pass_the_committed_limits_and_these_are_near(
    root: Path, committed: PromoteSettings
) -> None:
    reports = {
        path.parent.name: json.loads(path.read_text()) for path in root.glob("reports/tess/protocols/*/metrics.json")
    }
    without_drop = {
        name: limits.model_copy(update={"drop": None}) for name, limits in committed.protocols if limits is not None
    }
    settings = committed.model_copy(update={"protocols": ProtocolsGates(**without_drop)})

    gates = of_protocols(reports, settings)

    assert [gate.sentence for gate in gates if not gate.passed] == []
    room = {gate.name: abs(float(gate.figure) - float(gate.limit.split()[-1])) for gate in gates}
    far = [f"{name}: {value:.2f} from the committed figure" for name, value in room.items() if value > 0.11]
    assert far == [], "the limits under `promote:` of params.yaml say how they are set"
