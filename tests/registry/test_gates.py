import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from helpers import released, tracked
from helpers.workspaces import commit, git
from speech_emotion.config.registry import PromoteSettings, ProtocolGates
from speech_emotion.registry import gates
from speech_emotion.registry.gates import Gate, folder_md5, head_gates, limited

CONDITIONS = {
    "noise at 20 dB": {"uar": 0.80, "drop": 0.10},
    "telephone band": {"uar": 0.65, "drop": 0.25},
    "gain of 12 dB": {"uar": 0.91, "drop": -0.01},
}


def gates_for(**limits: float | None) -> PromoteSettings:
    """Gates with only these limits, for the protocol `word`."""
    of_word = ProtocolGates(**({"uar": None, "ece": None, "recall": None, "drop": None} | limits))
    return PromoteSettings(
        mode="enforce",
        corpus="tess",
        protocols={"word": of_word},
        against_champion=(),
        latency_ms=None,
        package_mb=None,
        card=False,
        head=False,
    )


def protocol_gates(evaluation: dict, settings: PromoteSettings) -> list[Gate]:
    return list(gates.protocol_gates(evaluation, settings))


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


@pytest.mark.parametrize("evaluation", [{}, {"robustness": {"word": {}}}, {"robustness": {"random": CONDITIONS}}])
def test_missing_robustness_table_fails(evaluation: dict) -> None:
    [gate] = protocol_gates(evaluation, gates_for(drop=1.0))

    assert (gate.figure, gate.passed) == ("-", False)
    assert gate.detail == "the package has no such metric of the protocol word"
    assert protocol_gates(evaluation, gates_for()) == []


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


LOCK: dict[str, Any] = {
    "prepare": {"params": {"params.yaml": {"corpus.name": "tiny"}}, "outs": [{"path": "data/x", "md5": "1" * 32}]},
    "train": {
        "deps": [{"path": "data", "md5": "9" * 32}, {"path": "data/x", "md5": "1" * 32}],
        "params": {"params.yaml": {"train.epochs": 3}},
        "outs": [{"path": "models/tiny/protocols/full", "md5": "2" * 32}],
    },
    "package": {"deps": [{"path": "models/tiny/protocols/full", "md5": "2" * 32}]},
    "elsewhere": {"params": {"params.yaml": {"promote.mode": "off"}}, "outs": [{"path": "reports/x", "md5": "3" * 32}]},
}
"""What led to a package, and a stage that did not."""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package as a folder, outside of the repository, as a registered one is."""
    folder = tmp_path / "registered"
    folder.mkdir()
    (folder / "weights").write_bytes(b"weights")
    return folder


def committed(folder: Path, package: Path, change: Callable[[dict[str, Any]], Any], epochs: int = 3) -> Path:
    """Return a repository whose HEAD has such a dvc.lock and params.yaml."""
    stages = json.loads(json.dumps(LOCK))
    stages["package"]["outs"] = [{"path": "models/tiny/package", "md5": folder_md5(package)}]
    change(stages)
    stages = {name: {"cmd": "true", **stage} for name, stage in stages.items()}
    folder.mkdir()
    (folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
    params = f"corpus: {{name: tiny}}\ntrain: {{epochs: {epochs}}}\npromote: {{mode: enforce}}\n"
    (folder / "params.yaml").write_text(params)
    git("init", "--quiet", at=folder)
    commit(folder)
    return folder


def sentences(root: Path, package: Path) -> dict[str, str]:
    """Return the gates that are not passed, by name."""
    found = head_gates(root, "tiny", package)
    assert [gate.name for gate in found] == ["head.weights", "head.data", "head.params"]
    return {gate.name: gate.detail for gate in found if not gate.passed}


def test_package_of_head_passes(tmp_path: Path, package: Path) -> None:
    root = committed(tmp_path / "repository", package, lambda stages: None)
    # what is not committed does not count
    (root / "params.yaml").write_text("train: {epochs: 5}\n")

    assert sentences(root, package) == {}


def test_other_weights_data_and_settings_fail(tmp_path: Path, package: Path) -> None:
    def change(stages: dict[str, Any]) -> None:
        stages["prepare"]["outs"][0]["md5"] = "4" * 32

    root = committed(tmp_path / "repository", package, change, epochs=4)
    wanted = folder_md5(package)
    (package / "weights").write_bytes(b"other")

    assert sentences(root, package) == {
        "head.weights": f"it has {wanted[:12]}: commit dvc.lock, or check out the version's commit",
        "head.data": "train read another data/x",
        "head.params": "train ran with another train.epochs",
    }


def test_stages_that_dvc_yaml_no_longer_has_are_ignored(tmp_path: Path, package: Path) -> None:
    def change(stages: dict[str, Any]) -> None:
        stages["package"]["deps"] = [{"path": "models/tiny/protocols", "md5": "5" * 32}]
        stages["train@word"] = {
            "deps": [{"path": "data/x", "md5": "4" * 32}],
            "params": {"params.yaml": {"train.epochs": 9}},
            "outs": [{"path": "models/tiny/protocols/word", "md5": "6" * 32}],
        }

    root = committed(tmp_path / "repository", package, change)
    # without a dvc.yaml, all stages of dvc.lock count
    assert sentences(root, package) == {
        "head.data": "train@word read another data/x",
        "head.params": "train@word ran with another train.epochs",
    }
    stages = {name: {"cmd": "x"} for name in ("prepare", "train", "package")}
    (root / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    commit(root)
    assert sentences(root, package) == {}


def test_nothing_passes_without_a_commit_or_package(tmp_path: Path, package: Path) -> None:
    root = committed(tmp_path / "repository", package, lambda stages: stages.pop("package"))
    bare = tmp_path / "bare"
    bare.mkdir()
    git("init", "--quiet", at=bare)

    assert set(sentences(root, package).values()) == {"HEAD's dvc.lock has no models/tiny/package: commit it"}
    assert set(sentences(bare, package).values()) == {"there is no commit with a dvc.lock"}


def test_folder_md5_is_that_of_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "package"
    for name in ("a.txt", "evaluation/b.json", "evaluation.txt", "é.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() + b"\r\n")

    repo = Repo.init(str(tmp_path), no_scm=True)
    [stage] = repo.add(str(folder))

    assert folder_md5(folder) == stage.outs[0].hash_info.value
