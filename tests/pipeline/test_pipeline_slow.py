"""Run the whole pipeline in a fresh clone: complete, reproducible, and the same after being killed anywhere."""

import csv
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import mlflow
import psutil
import pytest

from helpers.workspaces import (
    PIPELINE,
    DemoRun,
    Workspace,
    commit,
    descendants,
    git,
    kill,
    stage_process,
    stages_run,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHARES = (0.5, 0.25, 0.12, 0.06, 0.0)
"""Shares of a stage's usual time after which it is killed. If it ended sooner, the next share is tried."""

PROTOCOLS = ("random", "word", "speaker", "full")


def test_demo_runs_every_stage(demo_run: DemoRun) -> None:
    lines = demo_run.output.splitlines()
    assert [name for name in PIPELINE if f"Running stage '{name}" not in demo_run.output] == []
    for protocol in PROTOCOLS:
        metrics = json.loads((demo_run.demo.folder / "reports/demo/protocols" / protocol / "metrics.json").read_text())
        assert 0 <= metrics["mean"]["uar"] <= 1
        shown = [protocol, *(f"{metrics['mean'][name]:.1%}" for name in ("accuracy", "uar"))]
        assert shown in [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert "Three things to try next" in demo_run.output


def test_demo_leaves_the_checkout_clean(demo_run: DemoRun) -> None:
    assert git("status", "--porcelain", at=demo_run.home.folder) == ""


def test_demo_is_in_mlflow(demo_run: DemoRun) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{demo_run.home.folder / 'mlflow.db'}")

    [version] = client.search_model_versions("name='speech-emotion-demo'")
    runs = demo_runs(client)

    assert client.get_model_version_by_alias("speech-emotion-demo", "challenger").version == version.version
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 5  # random, word and full have one fold, speaker has one a speaker
    assert all(str(demo_run.home.folder / "mlruns") in run.info.artifact_uri for run in runs)


def test_demo_prints_a_working_registry_command(demo_run: DemoRun) -> None:
    command = ("speech-emotion", "registry", "--corpus", "demo")

    assert f".venv/bin/{' '.join(command)}" in demo_run.output
    assert "challenger" in replace(demo_run.home, environment={}, prefix=()).run(*command)


def test_second_demo_runs_only_publish(demo_run: DemoRun) -> None:
    with demo_run.held():
        output = demo_run.home.run("python", "scripts/demo.py")

    assert stages_run(output) == ["publish"]
    assert demo_run.demo.outs()


def test_demo_repairs_a_damaged_clone(demo_run: DemoRun) -> None:
    before = demo_run.demo.outs()
    with demo_run.held():
        (demo_run.demo.folder / ".git" / "index.lock").touch()
        (demo_run.demo.folder / "params.yaml").write_text("half: [")
        (demo_run.demo.folder / "dvc.yaml").unlink()

        demo_run.home.run("python", "scripts/demo.py")

    assert demo_run.demo.outs() == before


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("  epochs: 3", "  epochs: 4", {"train"}),
        ("  n_mels: 64", "  n_mels: 48", {"featurize"}),
        ("  calibration_bins: 15", "  calibration_bins: 10", {"evaluate", "report"}),
        ("source: data/incoming", "source: data/elsewhere", {"download"}),
        ("workers: null", "workers: 1", set()),
        ("# Every setting", "# Each setting", set()),
    ],
    ids=["epochs", "filters", "calibration", "source", "workers", "a comment"],
)
def test_changed_parameter_reruns_its_stages(
    demo_run: DemoRun, copied: Workspace, old: str, new: str, stale: set[str]
) -> None:
    params = copied.folder / "params.yaml"
    text = params.read_text()
    assert old in text

    params.write_text(text.replace(old, new))

    assert set(stale_stages(copied)) == stale


def test_changed_message_reruns_nothing(copied: Workspace) -> None:
    for package in ("cli", "config", "core", "registry", "tracking"):
        for file in (copied.folder / "src/speech_emotion" / package).glob("*.py"):
            file.write_text(file.read_text() + "\n# changed\n")

    assert stale_stages(copied) == []


def test_new_protocol_trains_only_itself(copied: Workspace) -> None:
    params = copied.folder / "params.yaml"
    every = "protocols: [random, word, speaker, full]"
    text = params.read_text()
    assert every in text
    params.write_text(text.replace(every, "protocols: [random, full]"))
    copied.run("dvc", "repro", "train")
    params.write_text(text)
    copied.forget("train")  # and the run cache, which has all protocols

    output = copied.run("dvc", "repro", "train")

    assert output.count("Resuming from epoch") == 2  # random and full


def test_experiment(copied: Workspace) -> None:
    git("config", "user.name", "tests", at=copied.folder)
    git("config", "user.email", "tests@example.org", at=copied.folder)
    commit(copied.folder)

    copied.run("dvc", "exp", "run", "-S", "evaluate.calibration_bins=100", "evaluate")
    table = copied.run("dvc", "exp", "show", "--only-changed", "--csv")

    rows = list(csv.DictReader(io.StringIO(table[table.index("Experiment,") :])))
    assert [row["typ"] for row in rows] == ["baseline", "baseline", "branch_base"]
    assert [row["evaluate.calibration_bins"] for row in rows[1:]] == ["15", "100"]
    column = next(name for name in rows[0] if name.endswith("speaker.ece"))
    [before, after] = [row[column] for row in rows[1:]]
    assert before != after


def test_lock_check(copied: Workspace) -> None:
    commit(copied.folder)
    assert "dvc.lock agrees" in copied.run("python", "scripts/check_lock.py")

    for name in ("src/speech_emotion/data/splits.py", "reports/demo/protocols/word/metrics.json"):
        (copied.folder / name).write_text((copied.folder / name).read_text() + "\n")
    params = copied.folder / "params.yaml"
    params.write_text(params.read_text().replace("  n_mels: 64", "  n_mels: 48"))

    output = copied.run("python", "scripts/check_lock.py", status=1)
    assert "split: src/speech_emotion/data/splits.py has changed since" in output
    assert "evaluate: reports/demo/protocols has changed since" in output
    assert "featurize: params.yaml: featurize has changed since" in output


def test_kill_of_every_stage_gives_the_same_bytes(demo_run: DemoRun, copied: Workspace) -> None:
    before = copied.outs()
    (copied.folder / "mlflow.db").unlink()  # so that publish has everything to do
    # from the last to the first: a stage that was killed has no outputs, and the next one needs its inputs
    for stage in reversed(PIPELINE):
        for who, shares in (("the stage alone", SHARES), ("DVC and all its children", SHARES[1:])):
            interrupt(copied, stage, demo_run.seconds, whom(who), shares)
            assert eventually(lambda: copied.processes() == [], 60), (stage, who)

    copied.forget(*copied.lock()["stages"])
    output = copied.run("dvc", "repro")

    assert sorted(stages_run(output)) == sorted(stages_run(demo_run.output))
    assert "Resuming from epoch" in output
    assert copied.outs() == before
    assert copied.half_written() == []
    assert copied.processes() == []


@pytest.mark.parametrize("stage", ["download", "featurize", "train"])
def test_stage_dies_with_dvc(demo_run: DemoRun, copied: Workspace, stage: str) -> None:
    interrupt(copied, stage, demo_run.seconds, lambda dvc, process: [dvc])

    assert eventually(lambda: copied.processes() == [])


def test_killed_training_and_publish_leave_mlflow_whole(demo_run: DemoRun, copied: Workspace) -> None:
    (copied.folder / "mlflow.db").unlink()  # so that publish has everything to do
    interrupt(copied, "train", demo_run.seconds, whom("DVC and all its children"))
    interrupt(copied, "publish", demo_run.seconds, whom("the stage alone"))

    copied.run("dvc", "repro")

    client = mlflow.MlflowClient(copied.environment["MLFLOW_TRACKING_URI"])
    runs = demo_runs(client)
    finished = [run.data.tags["training_digest"] for run in runs if run.info.status == "FINISHED"]
    assert len(finished) == len(set(finished)) == 5
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    assert len(client.search_model_versions("name='speech-emotion-demo'")) == 1


@pytest.fixture
def copied(demo_run: DemoRun, tmp_path: Path) -> Iterator[Workspace]:
    """A copy of the demo's clone after an undisturbed run; whatever a test leaves running in it is ended."""
    copy = demo_run.copy(tmp_path / "copy")
    yield copy
    kill(*copy.processes())


Victims = Callable[[psutil.Popen, psutil.Process], list[psutil.Process]]


def whom(name: str) -> Victims:
    """Return which processes a kill strikes, of a DVC and of a stage that it runs."""
    if name == "the stage alone":
        return lambda dvc, process: [process]
    return lambda dvc, process: [dvc, *descendants(dvc)]


def interrupt(
    workspace: Workspace, stage: str, seconds: dict[str, float], victims: Victims, shares: Sequence[float] = SHARES
) -> None:
    """Run a stage that DVC has forgotten, and kill -9 in the middle of it."""
    usual = seconds[stage]
    for share in shares:
        if stage != "publish":  # which runs every time
            workspace.forget(stage)
        with workspace.started("dvc", "repro", "--single-item", stage) as dvc:
            assert eventually(lambda: stage_process(dvc, stage) is not None or dvc.poll() is not None, 60)
            process = stage_process(dvc, stage)
            if process is not None and stage == "train":
                wait_for_an_epoch(workspace, process)
            elif process is not None:
                time.sleep(usual * share)
            if process is not None and is_held(process):
                kill(*victims(dvc, process))
                with suppress(psutil.NoSuchProcess):
                    process.resume()
                dvc.wait(60)
                return
            # over already; DVC has to end by itself, for it writes dvc.lock in place, and killed then, it leaves half
            assert dvc.wait(60) == 0, workspace.started_log()
    raise AssertionError(f"{stage} was never caught at work")


def is_held(process: psutil.Process) -> bool:
    """Stop a process where it is, so that DVC does not go on while who is to be killed is looked for; or it is over."""
    try:
        process.suspend()
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for_an_epoch(workspace: Workspace, training: psutil.Process) -> None:
    """Wait until a training has kept an epoch, it and not one that was killed before it."""
    began, kept = training.create_time(), workspace.folder / ".scratch" / "train"

    def has_kept() -> bool:
        return any(file.stat().st_mtime > began for file in kept.glob("*/checkpoint*"))

    assert eventually(lambda: has_kept() or not training.is_running(), 60)


def eventually(holds: Callable[[], bool], seconds: float = 10) -> bool:
    """Return whether something comes to hold within a time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def demo_runs(client: mlflow.MlflowClient) -> list[mlflow.entities.Run]:
    experiment = client.get_experiment_by_name("speech-emotion-demo")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def stale_stages(workspace: Workspace) -> list[str]:
    """Return the stages whose own code, parameters or inputs are not those of their last run."""
    output = workspace.run("dvc", "status", "--json", "dvc.yaml")
    stale: dict[str, object] = json.loads(output[output.index("{") :])
    # publish runs every time, a search when it is asked for
    return [name for name in stale if name != "publish" and not name.startswith("tuning/")]
