import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from speech_emotion.registry.gates import folder_md5, head_gates

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
    (folder / "params.yaml").write_text(
        f"corpus: {{name: tiny}}\ntrain: {{epochs: {epochs}}}\npromote: {{mode: enforce}}\n"
    )
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    for arguments in (("add", "."), ("commit", "--quiet", "--message", "x")):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@x", *arguments], cwd=folder, check=True)


def sentences(root: Path, package: Path) -> dict[str, str]:
    """Return the gates that are not passed, by name."""
    gates = head_gates(root, "tiny", package)
    assert [gate.name for gate in gates] == ["head.weights", "head.data", "head.params"]
    return {gate.name: gate.detail for gate in gates if not gate.passed}


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
        "head.weights": f"it has {wanted[:12]}",
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
    (root / "dvc.yaml").write_text(
        json.dumps({"stages": {name: {"cmd": "x"} for name in ("prepare", "train", "package")}})
    )
    commit(root)
    assert sentences(root, package) == {}


def test_nothing_passes_without_a_commit_or_package(tmp_path: Path, package: Path) -> None:
    root = committed(tmp_path / "repository", package, lambda stages: stages.pop("package"))
    bare = tmp_path / "bare"
    bare.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=bare, check=True)

    assert set(sentences(root, package).values()) == {"it has no models/tiny/package"}
    assert set(sentences(bare, package).values()) == {"there is no commit with a dvc.lock"}


def test_folder_md5_is_that_of_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "package"
    for name in ("a.txt", "evidence/b.json", "evidence.txt", "é.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() + b"\r\n")

    repo = Repo.init(str(tmp_path), no_scm=True)
    [stage] = repo.add(str(folder))

    assert folder_md5(folder) == stage.outs[0].hash_info.value
