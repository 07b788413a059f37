import shutil
from pathlib import Path

import pytest

from speech_emotion.config import presets
from speech_emotion.config.params import read_settings
from speech_emotion.core.errors import UserError


@pytest.fixture
def workspace(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(root / "params.yaml", tmp_path)
    shutil.copytree(root / "presets", tmp_path / "presets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def comments(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.partition("#")[2] for line in lines if "#" in line]


def keys(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split(":")[0] for line in lines if ":" in line and not line.startswith(("#", "  - "))]


@pytest.mark.parametrize("name", ["reference", "demo", "own", "voices"])
def test_comments_and_order_are_kept(workspace: Path, root: Path, name: str) -> None:
    diff = presets.apply(name)
    assert keys(workspace / "params.yaml") == keys(root / "params.yaml")
    assert comments(workspace / "params.yaml") == comments(root / "params.yaml")
    settings = [line for line in diff.splitlines() if not line[1:].startswith("  - ")]  # a list may be of any length
    assert sum(line.startswith("-  ") for line in settings) == sum(line.startswith("+  ") for line in settings) > 0
    assert diff.startswith(f"--- params.yaml\n+++ params.yaml with presets/{name}.yaml\n@@ ")
    assert presets.apply(name) == ""


def test_tess_is_the_way_back(workspace: Path) -> None:
    before = Path("params.yaml").read_text()
    for name in ("voices", "own", "voices", "demo", "tess", "reference", "tess"):
        assert presets.apply(name)
    assert Path("params.yaml").read_text() == before


def test_values_are_written_in_one_line(workspace: Path) -> None:
    (workspace / "mine.yaml").write_text(
        "train:\n  early_stopping:\n    patience: 5\n  network: {lstm: [8]}\n  optimizer: {clip_norm: null}\n"
    )
    diff = presets.apply(Path("mine.yaml"))
    assert "+  early_stopping: {patience: 5}" in diff
    assert "+    lstm: [8]" in diff
    assert "+    clip_norm: null" in diff
    presets.apply("reference")
    assert read_settings().train.early_stopping is None


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("train: {epoch: 3}", "params.yaml with mine.yaml: train.epoch: unknown key. Did you mean 'epochs'?"),
        ("search: {trials: 3}", "params.yaml with mine.yaml: search: unknown key."),
        (
            "train: {network: {dropout: {lstm: 1.2}}}",
            "params.yaml with mine.yaml: train.network.dropout.lstm: found 1.2",
        ),
        ("3", "mine.yaml: expected sections"),
        ("train: [", "mine.yaml: line 2: not valid YAML: "),
    ],
)
def test_refused_preset_changes_nothing(workspace: Path, preset: str, expected: str) -> None:
    before = (workspace / "params.yaml").read_bytes()
    (workspace / "mine.yaml").write_text(preset + "\n")

    with pytest.raises(UserError) as error:
        presets.apply("mine.yaml")

    assert str(error.value).startswith(expected)
    assert (workspace / "params.yaml").read_bytes() == before
    assert {path.name for path in workspace.iterdir()} == {"params.yaml", "presets", "mine.yaml"}
