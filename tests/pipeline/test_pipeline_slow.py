"""Run the whole pipeline in a fresh clone: complete, reproducible, and the same after kills in every stage."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest

from helpers.emotion_server import wait_until
from helpers.workspaces import PIPELINE, DemoRun, Workspace, commit, descendants, git, kill, stage_process
from speech_emotion.models.baselines import DESCRIPTIONS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHARES = (0.25, 0.12, 0.06, 0.0)
"""Shares of a stage's usual time after which it is killed. If it ended sooner, the next share is tried."""

PROTOCOLS = ("random", "word", "speaker", "full")

STAGE, DVC, BOTH = "the stage", "DVC", "DVC and its children"

KILLS = (
    *(("download", STAGE), ("prepare", BOTH), ("featurize", DVC), ("featurize", BOTH), ("split", BOTH)),
    *(("train", BOTH), ("train", DVC), ("evaluate", STAGE), ("evaluate", BOTH), ("baselines", DVC)),
    *(("package", BOTH), ("report", STAGE), ("publish", BOTH), ("publish", STAGE)),
)
"""Every stage with what is killed while it runs."""


def test_demo_runs_every_stage(demo_run: DemoRun) -> None:
    lines = demo_run.output.splitlines()
    assert [name for name in PIPELINE if f"Running stage '{name}" not in demo_run.output] == []
    for protocol in PROTOCOLS:
        metrics = json.loads((demo_run.demo.folder / "reports/demo/protocols" / protocol / "metrics.json").read_text())
        assert 0 <= metrics["mean"]["uar"] <= 1
        shown = [protocol, *(f"{metrics['mean'][name]:.1%}" for name in ("accuracy", "uar"))]
        assert shown in [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert git("status", "--porcelain", at=demo_run.home.folder) == ""
    compared = pd.read_csv(demo_run.demo.folder / "reports/demo/comparison/table.csv", index_col=["protocol", "name"])
    expected = {(protocol, name) for protocol in PROTOCOLS[:3] for name in ("model", *DESCRIPTIONS)}
    assert set(compared.index) == expected
    assert compared.loc[("random", "majority"), "uar"] == pytest.approx(1 / 7, abs=1e-6)


def test_demo_is_in_mlflow(demo_run: DemoRun) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{demo_run.home.folder / 'mlflow.db'}")

    [version] = client.search_model_versions("name='speech-emotion-demo'")
    runs = demo_runs(client)

    assert client.get_model_version_by_alias("speech-emotion-demo", "challenger").version == version.version
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 5  # random, word and full have one fold, speaker has one a speaker
    assert all(str(demo_run.home.folder / "mlruns") in run.info.artifact_uri for run in runs)
    command = ("speech-emotion", "registry", "--corpus", "demo")
    assert f".venv/bin/{' '.join(command)}" in demo_run.output
    assert "challenger" in replace(demo_run.home, environment={}, prefix=()).run(*command)


def test_demo_repairs_a_damaged_clone(demo_run: DemoRun) -> None:
    before, lock = demo_run.demo.outs(), demo_run.demo.folder / "dvc.lock"
    with demo_run.held():
        lock.write_text(lock.read_text()[:5000])  # DVC writes it in place
        (demo_run.demo.folder / ".git" / "index.lock").touch()
        (demo_run.demo.folder / "params.yaml").write_text("half: [")
        (demo_run.demo.folder / "dvc.yaml").unlink()

        demo_run.home.run("python", "scripts/demo.py")

    assert demo_run.demo.outs() == before


def test_changed_parameters_rerun_their_stages(copied: Workspace) -> None:
    params = copied.folder / "params.yaml"
    text = params.read_text()
    for old, new, stale in (
        ("  epochs: 2", "  epochs: 4", {"train"}),
        ("  n_mels: 64", "  n_mels: 48", {"featurize"}),
        ("  calibration_bins: 15", "  calibration_bins: 10", {"evaluate", "package", "report"}),
        ("source: data/incoming", "source: data/elsewhere", {"download"}),
    ):
        assert old in text
        params.write_text(text.replace(old, new))
        assert stale_stages(copied) == stale, new


def test_changed_message_reruns_nothing(copied: Workspace) -> None:
    params = copied.folder / "params.yaml"
    params.write_text(params.read_text().replace("workers: null", "workers: 1").replace("# Every", "# Each"))
    for package in ("cli", "config", "core", "registry", "tracking"):
        for file in (copied.folder / "src/speech_emotion" / package).glob("*.py"):
            file.write_text(file.read_text() + "\n# changed\n")

    assert stale_stages(copied) == set()


def test_new_protocol_trains_only_itself(copied: Workspace) -> None:
    params = copied.folder / "params.yaml"
    text = params.read_text()
    every = "protocols: [random, word, speaker, full]"
    assert every in text
    params.write_text(text.replace(every, "protocols: [full]"))
    copied.run("dvc", "repro", "train")
    params.write_text(text.replace(every, "protocols: [random, full]"))

    output = copied.run("dvc", "repro", "train")

    assert output.count("Resuming from epoch") == 1  # full


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
    copied.forget(*PIPELINE)
    # each `dvc repro` completes the stage that was killed last and is killed in the next
    output = "".join(interrupt(copied, stage, demo_run.seconds[stage], whom) for stage, whom in KILLS)

    output += copied.run("dvc", "repro")

    assert "Resuming from epoch" in output
    assert copied.outs() == before
    assert copied.half_written() == []
    assert copied.processes() == []
    client = mlflow.MlflowClient(copied.environment["MLFLOW_TRACKING_URI"])
    runs = demo_runs(client)
    finished = [run.data.tags["model_digest"] for run in runs if run.info.status == "FINISHED"]
    assert len(finished) == len(set(finished)) == 5
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    assert len(client.search_model_versions("name='speech-emotion-demo'")) == 1


@pytest.fixture
def copied(demo_run: DemoRun, tmp_path: Path) -> Iterator[Workspace]:
    """A copy of the demo's clone after its run; processes that a test leaves in it are killed."""
    copy = demo_run.copy(tmp_path / "copy")
    yield copy
    kill(*copy.processes())


def interrupt(workspace: Workspace, stage: str, usual: float, whom: str) -> str:
    """Run the pipeline up to a stage, kill -9 in the middle of it, and return what DVC printed."""
    for share in SHARES:
        with workspace.started("dvc", "repro", stage) as dvc:
            wait_until(lambda: stage_process(dvc, stage) is not None or dvc.poll() is not None, 300)
            process = stage_process(dvc, stage)
            if process is not None and stage == "train":
                wait_for_an_epoch(workspace, process)
            elif process is not None and whom == DVC:
                wait_for_workers(process)
            elif process is not None:
                time.sleep(usual * share)
            if process is not None and is_held(process):
                children = descendants(dvc)
                kill(*{STAGE: [process], DVC: [dvc], BOTH: [dvc, *children]}[whom])
                with suppress(psutil.NoSuchProcess):
                    process.resume()
                dvc.wait(60)
                wait_until(lambda: workspace.processes() == [], 60)
                return workspace.started_log()
            # over already; DVC has to end by itself, for it writes dvc.lock in place, and killed then, it leaves half
            assert dvc.wait(60) == 0, workspace.started_log()
        workspace.forget(stage)
    raise AssertionError(f"{stage} ended before it could be killed")


def is_held(process: psutil.Process) -> bool:
    """Stop a process, so that DVC waits until the kill; return whether it was still running."""
    try:
        process.suspend()
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for_workers(process: psutil.Process) -> None:
    """Wait until a stage has workers: by then it has asked the kernel to die with its parent."""
    wait_until(lambda: not process.is_running() or descendants(process) != [], 300)


def wait_for_an_epoch(workspace: Workspace, training: psutil.Process) -> None:
    """Wait until this training, and not one before it, has written a checkpoint."""
    began, scratch = training.create_time(), workspace.folder / ".scratch" / "train"

    def has_checkpoint() -> bool:
        return any(file.stat().st_mtime > began for file in scratch.glob("*/checkpoint*"))

    wait_until(lambda: has_checkpoint() or not training.is_running(), 120)


def demo_runs(client: mlflow.MlflowClient) -> list[mlflow.entities.Run]:
    experiment = client.get_experiment_by_name("speech-emotion-demo")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def stale_stages(workspace: Workspace) -> set[str]:
    """Return the stages whose code, parameters or inputs differ from those of their last run."""
    output = workspace.run("dvc", "status", "--json", "dvc.yaml")
    stale: dict[str, object] = json.loads(output[output.index("{") :])
    return set(stale) - {"publish"}  # which runs every time
