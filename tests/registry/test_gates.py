import math
from pathlib import Path

import pytest

from helpers import released, tracked
from speech_emotion.config.params import read_settings
from speech_emotion.config.registry import PromoteSettings, ProtocolGates, ProtocolsGates
from speech_emotion.registry import gates
from speech_emotion.registry.gates import Gate, limited

CONDITIONS = {
    "noise at 20 dB": {"uar": 0.80, "drop": 0.10},
    "telephone band": {"uar": 0.65, "drop": 0.25},
    "gain of 12 dB": {"uar": 0.91, "drop": -0.01},
}


@pytest.fixture(scope="module")
def committed(root: Path) -> PromoteSettings:
    """The gates of the repository's params.yaml."""
    return read_settings(root / "params.yaml").promote


def gates_for(**limits: float | None) -> PromoteSettings:
    """Gates with only these limits, for the protocol `word`."""
    of_word = ProtocolGates(**({"uar": None, "ece": None, "recall": None, "drop": None} | limits))
    return PromoteSettings(
        mode="enforce",
        corpus="tess",
        protocols=ProtocolsGates(word=of_word),
        against_champion=(),
        latency_ms=None,
        package_mb=None,
        card=False,
        head=False,
    )


def protocol_gates(evidence: dict, settings: PromoteSettings) -> list[Gate]:
    return list(gates.protocol_gates(evidence, settings))


def test_limits_and_margins() -> None:
    assert limited("a", 0.5, "at least", 0.5).passed
    assert limited("b", 0.5, "at most", 0.5).passed
    assert limited("a", 0.4, "at least", 0.5).sentence == "a: 0.4000, limit at least 0.5 (0.1000 below)"
    assert limited("b", 0.7, "at most", 0.5, "of two").sentence == "b: 0.7000, limit at most 0.5 (0.2000 above; of two)"


@pytest.mark.parametrize("figure", [math.nan, None])
def test_nan_and_none_fail(figure: float | None) -> None:
    assert not limited("a", figure, "at least", 0.0).passed
    assert not limited("b", figure, "at most", 1.0).passed


def test_worst_condition_counts() -> None:
    [gate] = protocol_gates({"robustness": {"word": CONDITIONS}}, gates_for(drop=0.2))

    assert gate.sentence == "word.drop: 0.2500, limit at most 0.2 (0.0500 above; worst: telephone band)"
    assert protocol_gates({"robustness": {"word": CONDITIONS}}, gates_for(drop=0.25))[0].passed


@pytest.mark.parametrize("nan", [math.nan, None])
def test_nan_condition_is_the_worst(nan: float | None) -> None:
    conditions = {"a": {"uar": nan, "drop": nan}, **CONDITIONS}

    [gate] = protocol_gates({"robustness": {"word": conditions}}, gates_for(drop=0.9))

    assert not gate.passed
    assert gate.detail.endswith("worst: a")


@pytest.mark.parametrize("evidence", [{}, {"robustness": {"word": {}}}, {"robustness": {"random": CONDITIONS}}])
def test_missing_robustness_table_fails(evidence: dict) -> None:
    [gate] = protocol_gates(evidence, gates_for(drop=1.0))

    assert (gate.figure, gate.passed) == ("-", False)
    assert gate.detail == "the package has no such metric of the protocol word"
    assert protocol_gates(evidence, gates_for()) == []


@pytest.mark.parametrize(
    ("corpus", "protocols", "names", "against"),
    [
        (tracked.CORPUS, ("random", "word", "speaker", "full"), ["random.uar"], ("random", "speaker")),
        (tracked.CORPUS, ("speaker", "full"), [], ("speaker",)),
        ("another", ("random", "full"), [], ("random",)),
    ],
)
def test_limits_apply_to_their_corpus_and_its_protocols(
    corpus: str, protocols: tuple[str, ...], names: list[str], against: tuple[str, ...]
) -> None:
    applied = released.gates().applied_to(corpus, protocols)

    assert [gate.name for gate in protocol_gates({}, applied)] == names
    assert applied.against_champion == against
