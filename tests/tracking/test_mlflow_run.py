import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import tracked
from helpers.emotion_server import wait_until
from helpers.services import hanging_server, mlflow_server, postgresql
from speech_emotion.registry.publish import publish

pytest_plugins = ("helpers.mlflow_fixtures",)

TESTS = Path(__file__).parent.parent


def test_run_has_metrics_parameters_and_lineage(workspace: Path) -> None:
    for _ in range(2):  # a repeated training keeps its run
        tracked.train(workspace, "random")

    run = tracked.run_named("random/all")
    commit = tracked.git(workspace, "rev-parse", "HEAD")
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "train.epochs": "3",
        "train.network.lstm": "[8]",
        "train.network.dropout.lstm": "0.2",
        "featurize.n_mfcc": "13",
    }
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "val_uar", "learning_rate"} <= set(run.data.metrics)
    assert "system/cpu_utilization_percentage" in run.data.metrics
    expected = {
        "corpus": "tiny",
        "protocol": "random",
        "fold": "all",
        "model_digest": tracked.digest_of("random", "all"),
        "recorded": "live",
        "git.commit": commit,
        "mlflow.source.git.commit": commit,
        "git.source_dirty": "false",
        "git.params_dirty": "false",
        "dvc.data/tiny/raw": "1" * 32 + ".dir",
        "dvc.data/tiny/features": "3" * 32 + ".dir",
        "dvc.data/tiny/splits": "4" * 32 + ".dir",
        "digest.params": "d" * 64,
        "digest.spec": "e" * 64,
    }
    assert expected.items() <= run.data.tags.items()
    assert tracked.steps(run, "val_uar") == [1, 2, 3]
    files = ("architecture.json", "history.csv", "model.weights.h5", "training.json")
    assert tracked.artifacts(run, "training") == {f"training/{name}" for name in files}


def test_exception_fails_the_run(workspace: Path) -> None:
    with pytest.raises(ValueError, match="no number"), tracked.started("random"):
        raise ValueError("the loss is no number")

    found = tracked.run_named("random/all")
    assert (found.info.status, found.data.tags["reason"]) == ("FAILED", "ValueError: the loss is no number")


def train_in_another_process(epochs: int, then: int) -> None:
    """Train some epochs, wait until MLflow has them, and send the process a signal."""
    program = (
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(TESTS)!r})\n"
        "from helpers import tracked\n"
        "with tracked.started('random') as run:\n"
        f"    for epoch in range(1, {epochs} + 1):\n"
        "        run.epoch(epoch, tracked.history(epoch))\n"
        # at first there is no run
        f"    while not tracked.runs() or len(tracked.steps(tracked.run_named('random/all'), 'loss')) < {epochs}:\n"
        "        time.sleep(0.1)\n"
        f"    os.kill(os.getpid(), {then})\n"
        "    time.sleep(60)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60)


def test_sigterm_marks_the_run_as_killed(workspace: Path) -> None:
    train_in_another_process(1, signal.SIGTERM)

    assert tracked.run_named("random/all").info.status == "KILLED"


def test_killed_training_is_marked_and_continues_its_run(workspace: Path) -> None:
    train_in_another_process(2, signal.SIGKILL)
    assert tracked.run_named("random/all").info.status == "RUNNING"
    tracked.train(workspace, "word")
    assert tracked.run_named("random/all").info.status == "KILLED"
    assert tracked.run_named("word/all").info.status == "FINISHED"

    tracked.train(workspace, "random")

    run = tracked.run_named("random/all")
    assert run.info.status == "FINISHED"
    assert tracked.steps(run, "loss") == [1, 2, 3]
    system = tracked.steps(run, "system/cpu_utilization_percentage")
    assert system
    assert len(system) == len(set(system))


@pytest.mark.parametrize("uri", ["http://ada:secret@127.0.0.1:9", "", "localhost:5000"], ids=["dead", "slow", "wrong"])
def test_server_that_does_not_answer(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], uri: str
) -> None:
    with monkeypatch.context() as patch, hanging_server() as hanging:
        patch.setenv("MLFLOW_TRACKING_URI", uri or hanging)
        began = time.monotonic()
        tracked.train(workspace, "random")
        assert time.monotonic() - began < 20
    printed = capfd.readouterr().err
    assert "`publish` sends it later" in printed
    assert "secret" not in printed

    publish(workspace, corpus=tracked.CORPUS)

    run = tracked.run_named("random/all")
    assert (run.info.status, run.data.tags["recorded"]) == ("FINISHED", "from files")
    assert tracked.steps(run, "loss") == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "seconds"), [(signal.SIGKILL, 10), (signal.SIGSTOP, 30)], ids=["dies", "hangs"])
def test_server_over_postgresql_fails_during_training(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sent: signal.Signals, seconds: float
) -> None:
    with postgresql() as database:
        with mlflow_server(tmp_path / "server", backend=database.uri) as server:
            port = int(server.uri.rsplit(":", 1)[1])
            monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
            with tracked.started("random") as run:
                run.epoch(1, tracked.history(1))
                # at first there is no run
                wait_until(lambda: tracked.runs() and tracked.steps(tracked.run_named("random/all"), "loss") == [1])
                server.signal(sent)
                began = time.monotonic()
                for epoch in (2, 3):
                    run.epoch(epoch, tracked.history(epoch))
                run.finish(tracked.write_training(workspace, "random"))
                assert time.monotonic() - began < seconds
        with mlflow_server(tmp_path / "server", backend=database.uri, port=port):
            assert tracked.run_named("random/all").info.status == "RUNNING"
            tracked.evaluate(workspace, "random", {"all": 0.75})
            tracked.write_training(workspace, "full")
            digest = tracked.package(workspace)

            publish(workspace, corpus=tracked.CORPUS)

            run = tracked.run_named("random/all")
            assert (run.info.status, run.data.metrics["test/uar"]) == ("FINISHED", 0.75)
            assert tracked.steps(run, "loss") == [1, 2, 3]
            assert tracked.artifacts(run, "evaluation") >= {"evaluation/confusion.png"}
            version = tracked.client().get_model_version_by_alias(tracked.MODEL, "challenger")
            assert version.tags["package_digest"] == digest
