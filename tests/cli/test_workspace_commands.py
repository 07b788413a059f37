import os
import shutil
from pathlib import Path

import pytest

from helpers.commands import Command
from speech_emotion.tracking.connection import MlflowLocation, connect

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with the settings and presets of the repository, and nothing made."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    return tmp_path


def test_data_lists_every_kind_of_corpus(command: Command, workspace: Path) -> None:
    done = command("data", cwd=workspace)

    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["tess", "demo", "folder"]
    assert all(len(line.split("\t")) == 4 for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", ["data", "publish", "runs"])
def test_outside_of_a_clone_the_way_is_shown(command: Command, name: str, tmp_path: Path) -> None:
    done = command(name)

    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: cannot be read")
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_preset_is_shown_as_a_difference_and_written(command: Command, workspace: Path) -> None:
    done = command("preset", "reference", cwd=workspace)

    assert done.returncode == 0, done.stderr
    assert "-    input: frames" in done.stdout
    assert "+    input: time_mean" in done.stdout
    assert "input: time_mean" in (workspace / "params.yaml").read_text()


def test_a_preset_that_is_in_place_changes_nothing(command: Command, workspace: Path) -> None:
    command("preset", "reference", cwd=workspace)

    assert command("preset", "reference", cwd=workspace).stdout == "params.yaml has these settings already.\n"


def test_an_unknown_preset_is_a_mistake(command: Command, workspace: Path) -> None:
    done = command("preset", "refrence", cwd=workspace)

    assert done.returncode == 1
    assert "Did you mean 'reference'?" in done.stderr


def test_outside_of_a_clone_there_are_no_presets(command: Command) -> None:
    done = command("preset", "reference")

    assert done.returncode == 1
    assert done.stderr == (
        "error: presets: there are no presets here. Run this in the root of the repository, where they lie.\n"
    )


def test_runs_says_so_when_there_are_none_and_makes_no_database(command: Command, workspace: Path) -> None:
    done = command("runs", cwd=workspace)

    assert done.returncode == 1
    assert "has no runs of 'tess' yet. Run `dvc repro`" in done.stderr
    assert not (workspace / "mlflow.db").exists()


def test_publish_says_what_it_made_and_runs_lists_it(
    in_process: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    empty = in_process("publish")
    record(workspace, protocol="word", fold="all", metrics={"test/uar": 0.75, "test/accuracy": 0.8125}, commit="c" * 40)
    record(workspace, protocol="full", fold="all", metrics={"validation/uar": 1.0}, commit="unknown: no repository")

    done = in_process("runs")

    assert empty.returncode == 0, empty.stderr
    assert "no package yet" in empty.stdout
    assert done.returncode == 0, done.stderr
    newest, oldest = (line.split("\t") for line in done.stdout.splitlines())
    assert newest[:6] == ["full", "all", "RUNNING", "validation", "1.0000", "-"]
    assert newest[7] == "-"
    assert oldest[:6] == ["word", "all", "RUNNING", "test", "0.7500", "0.8125"]
    assert oldest[7] == "cccccccc+"
    assert in_process("runs", "--limit", "1").stdout.count("\n") == 1


def record(workspace: Path, *, protocol: str, fold: str, metrics: dict[str, float], commit: str) -> None:
    """Make a run as `publish` does."""
    client = connect(MlflowLocation(f"sqlite:///{workspace / 'mlflow.db'}", None))
    experiment = client.get_experiment_by_name("speech-emotion-tess")
    tags = {"protocol": protocol, "fold": fold, "git.commit": commit, "git.source_dirty": "true"}
    run = client.create_run(experiment.experiment_id, tags=tags)
    for name, value in metrics.items():
        client.log_metric(run.info.run_id, name, value)
