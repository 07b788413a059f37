import os
import shutil
from pathlib import Path

import pytest

from helpers.terminal import Command
from speech_emotion.tracking.connection import MlflowLocation, connect


@pytest.fixture
def workspace(root: Path, tmp_path: Path) -> Path:
    """A folder with the settings of the repository, and nothing made."""
    shutil.copy(root / "params.yaml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["data", "publish", "runs"])
def test_commands_outside_of_a_clone(in_process: Command, name: str, tmp_path: Path) -> None:
    done = in_process(name)

    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: cannot be read")
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_runs_lists_newest_first(in_process: Command, workspace: Path) -> None:
    none = in_process("runs")
    assert (none.returncode, (workspace / "mlflow.db").exists()) == (1, False)
    assert "has no runs of 'tess' yet. Run `dvc repro`" in none.stderr
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
