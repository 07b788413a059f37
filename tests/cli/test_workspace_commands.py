import os
import shutil
from pathlib import Path
from typing import get_args

import pytest

from helpers.commands import Command
from speech_emotion.config.data import CorpusName
from speech_emotion.tracking.connection import MlflowLocation, connect

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with the settings and presets of the repository, and nothing made."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    return tmp_path


def test_data_lists_corpora(command: Command, workspace: Path) -> None:
    done = command("data", cwd=workspace)

    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["kind", *get_args(CorpusName)]
    assert all(len(line.split("\t")) == 4 for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", ["data", "publish", "runs"])
def test_commands_outside_of_a_clone(command: Command, name: str, tmp_path: Path) -> None:
    done = command(name)

    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: cannot be read")
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_preset_shows_a_diff(command: Command, workspace: Path) -> None:
    done = command("preset", "reference", cwd=workspace)

    assert done.returncode == 0, done.stderr
    assert "-    input: frames" in done.stdout
    assert "+    input: time_mean" in done.stdout
    assert "input: time_mean" in (workspace / "params.yaml").read_text()


def test_runs_without_a_database(command: Command, workspace: Path) -> None:
    done = command("runs", cwd=workspace)

    assert done.returncode == 1
    assert "has no runs of 'tess' yet. Run `dvc repro`" in done.stderr
    assert not (workspace / "mlflow.db").exists()


def test_runs_lists_newest_first(in_process: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    empty = in_process("publish")
    record(workspace, protocol="word", fold="all", metrics={"test/uar": 0.75, "test/accuracy": 0.8125}, commit="c" * 40)
    record(workspace, protocol="full", fold="all", metrics={"validation/uar": 1.0}, commit="unknown: no repository")

    done = in_process("runs")

    assert empty.returncode == 0, empty.stderr
    assert "no package yet" in empty.stdout
    assert done.returncode == 0, done.stderr
    _, newest, oldest = (line.split("\t") for line in done.stdout.splitlines())
    assert newest[:6] == ["full", "all", "RUNNING", "validation", "1.0000", "-"]
    assert newest[7] == "-"
    assert oldest[:6] == ["word", "all", "RUNNING", "test", "0.7500", "0.8125"]
    assert oldest[7] == "cccccccc+"
    assert in_process("runs", "--limit", "1").stdout.count("\n") == 2


def record(workspace: Path, *, protocol: str, fold: str, metrics: dict[str, float], commit: str) -> None:
    """Make a run as `publish` does."""
    client = connect(MlflowLocation(f"sqlite:///{workspace / 'mlflow.db'}", None))
    experiment = client.get_experiment_by_name("speech-emotion-tess")
    tags = {"protocol": protocol, "fold": fold, "git.commit": commit, "git.source_dirty": "true"}
    run = client.create_run(experiment.experiment_id, tags=tags)
    for name, value in metrics.items():
        client.log_metric(run.info.run_id, name, value)
