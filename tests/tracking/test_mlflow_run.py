import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import tracked
from helpers.services import hanging_server, mlflow_server, postgresql
from speech_emotion.registry.publish import publish
from speech_emotion.tracking import mlflow_run

pytest_plugins = ("helpers.mlflow_fixtures",)

TESTS = Path(__file__).parent.parent

PLACES = [
    # MLFLOW_TRACKING_URI, DVC_ROOT, the expected URI, the expected folder of artifacts
    ("", "", "sqlite:///{here}/mlflow.db", "{here}/mlruns"),
    ("", "{here}/elsewhere", "sqlite:///{here}/elsewhere/mlflow.db", "{here}/elsewhere/mlruns"),
    ("sqlite:///{here}/deep/x.db", "{here}/elsewhere", "sqlite:///{here}/deep/x.db", "{here}/deep/mlruns"),
    ("sqlite:///x.db", "", "sqlite:///{here}/x.db", "{here}/mlruns"),
    ("http://127.0.0.1:5000/", "", "http://127.0.0.1:5000", None),
    ("postgresql://u@h/d", "", "postgresql://u@h/d", "{here}/mlruns"),
]


@pytest.mark.parametrize(("uri", "dvc_root", "expected", "artifacts"), PLACES)
def test_mlflow_is_where_the_environment_says_else_in_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, dvc_root: str, expected: str, artifacts: str | None
) -> None:
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    for name, value in {"MLFLOW_TRACKING_URI": uri, "DVC_ROOT": dvc_root}.items():
        monkeypatch.setenv(name, value.format(here=tmp_path))

    folder = None if artifacts is None else Path(artifacts.format(here=tmp_path))
    assert mlflow_run.place() == mlflow_run.Place(expected.format(here=tmp_path), folder)


def test_below_the_root_mlflow_is_in_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").touch()
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")

    assert mlflow_run.place().artifacts == tmp_path / "mlruns"


def test_a_training_is_one_run_with_all_that_leads_back_to_it(workspace: Path) -> None:
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
        "training_digest": tracked.digest_of("random", "all"),
        "recorded": "live",
        "git.commit": commit,
        "mlflow.source.git.commit": commit,
        "git.source_dirty": "false",
        "git.params_dirty": "false",
        "dvc.raw": "1" * 32 + ".dir",
        "dvc.features": "3" * 32 + ".dir",
        "dvc.split": "4" * 32 + ".dir",
        "digest.params": "d" * 64,
        "digest.spec": "e" * 64,
    }
    assert expected.items() <= run.data.tags.items()
    assert tracked.steps(run, "val_uar") == [1, 2, 3]
    assert tracked.artifacts(run, "training") == {"training/history.csv", "training/training.json"}


def test_artifacts_lie_where_a_bare_mlflow_ui_expects_them(workspace: Path) -> None:
    tracked.train(workspace, "random")

    assert sorted(path.name for path in (workspace / "mlruns").rglob("*.csv")) == ["history.csv"]
    # a folder with a number for a name and a meta.yaml would turn MLflow's default back to its old file store
    assert not list((workspace / "mlruns").rglob("meta.yaml"))


def test_uncommitted_source_goes_into_the_run(workspace: Path) -> None:
    (workspace / "src" / "code.py").write_text("answer = 43\n")

    tracked.train(workspace, "random")

    run = tracked.run_named("random/all")
    assert (run.data.tags["git.source_dirty"], run.data.tags["git.params_dirty"]) == ("true", "false")
    patch = Path(tracked.client().download_artifacts(run.info.run_id, "lineage/source.patch"))
    assert "+answer = 43" in patch.read_text()


def test_an_exception_fails_the_run_and_passes_through(workspace: Path) -> None:
    with pytest.raises(ValueError, match="no number"), tracked.started("random"):
        raise ValueError("the loss is no number")

    found = tracked.run_named("random/all")
    assert (found.info.status, found.data.tags["reason"]) == ("FAILED", "ValueError: the loss is no number")


def test_control_c_marks_the_run_as_killed(workspace: Path) -> None:
    with pytest.raises(KeyboardInterrupt), tracked.started("random"):
        raise KeyboardInterrupt

    assert tracked.run_named("random/all").info.status == "KILLED"


def train_in_another_process(epochs: int, then: int) -> None:
    """Train some epochs, wait until MLflow knows them, and send that process a signal."""
    program = (
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(TESTS)!r})\n"
        "from helpers import tracked\n"
        "with tracked.started('random') as run:\n"
        f"    for epoch in range(1, {epochs} + 1):\n"
        "        run.epoch(epoch, tracked.history(epoch))\n"
        # at first there is no run to ask for
        f"    while not tracked.runs() or len(tracked.steps(tracked.run_named('random/all'), 'loss')) < {epochs}:\n"
        "        time.sleep(0.1)\n"
        f"    os.kill(os.getpid(), {then})\n"
        "    time.sleep(60)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60)


def test_a_terminated_training_marks_its_run_at_once(workspace: Path) -> None:
    train_in_another_process(1, signal.SIGTERM)

    assert tracked.run_named("random/all").info.status == "KILLED"


def test_a_killed_training_goes_on_in_its_run_and_tells_no_epoch_twice(workspace: Path) -> None:
    train_in_another_process(2, signal.SIGKILL)
    assert tracked.run_named("random/all").info.status == "RUNNING"

    tracked.train(workspace, "random")

    run = tracked.run_named("random/all")
    assert (run.info.status, run.data.tags["resumed"]) == ("FINISHED", "1")
    assert tracked.steps(run, "loss") == [1, 2, 3]
    system = tracked.steps(run, "system/cpu_utilization_percentage")
    assert len(system) == len(set(system))


def test_the_next_training_marks_a_killed_one(workspace: Path) -> None:
    train_in_another_process(1, signal.SIGKILL)

    tracked.train(workspace, "word")

    assert {run.info.run_name: run.info.status for run in tracked.runs()} == {
        "random/all": "KILLED",
        "word/all": "FINISHED",
    }


def test_a_dead_server_costs_a_moment_and_loses_nothing(
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        began = time.monotonic()
        tracked.train(workspace, "random")
        assert time.monotonic() - began < 10
    assert "`publish` sends it later" in capfd.readouterr().err

    publish(workspace, corpus=tracked.CORPUS)

    run = tracked.run_named("random/all")
    assert (run.info.status, run.data.tags["recorded"]) == ("FINISHED", "live")
    assert tracked.steps(run, "loss") == [1, 2, 3]
    assert "system/process_memory_megabytes" in run.data.metrics
    assert run.info.end_time - run.info.start_time < 10_000
    assert not list((workspace / ".scratch" / "tracking").iterdir())


def test_a_hanging_server_costs_seconds_and_loses_nothing(
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch, hanging_server() as uri:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        began = time.monotonic()
        tracked.train(workspace, "random")
        assert time.monotonic() - began < 20

    publish(workspace, corpus=tracked.CORPUS)

    assert tracked.steps(tracked.run_named("random/all"), "loss") == [1, 2, 3]


def test_a_training_needs_no_journal(
    workspace: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (workspace / ".scratch").write_text("in the way\n")

    tracked.train(workspace, "random")

    assert "no journal can be kept" in capfd.readouterr().err


def test_the_making_of_the_database_can_be_interrupted_and_made_good(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    mlflow_run.hush()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    (workspace / "mlflow.db").unlink()
    with monkeypatch.context() as patched:
        # Ctrl-C in the middle: the tables are there, and nothing in them
        patched.setattr(SqlAlchemyStore, "_create_default_experiment", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            mlflow_run.connect(mlflow_run.place())
    assert not list(workspace.glob("mlflow.db*"))

    # in the same process, as a search does that hears of Ctrl-C and tells MLflow what it has found
    client = mlflow_run.connect(mlflow_run.place())

    assert [one.name for one in client.search_experiments()] == ["Default"]
    assert [path.name for path in workspace.glob("mlflow.db*")] == ["mlflow.db"]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "first",
    [
        "from speech_emotion.tracking import mlflow_run; mlflow_run.connect(mlflow_run.place())",
        "from speech_emotion.registry import versions; versions.fetch('models:/nobody/1')",
    ],
    ids=["a client", "a model"],
)
def test_nothing_calls_home(workspace: Path, first: str) -> None:
    program = (
        "import os\n"
        # where the environment was not made by `make setup`, which sets these for every Python of it
        "for name in ('MLFLOW_DISABLE_TELEMETRY', 'DO_NOT_TRACK', 'CI', 'PYTEST_CURRENT_TEST'):\n"
        "    os.environ.pop(name, None)\n"
        "from speech_emotion.core.errors import UserError\n"
        f"try: {first}\n"
        "except UserError: pass\n"
        "from mlflow.telemetry import get_telemetry_client\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled\n"
        "print(is_telemetry_disabled(), get_telemetry_client())\n"
    )

    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)

    assert done.stdout == "True None\n"


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "seconds"), [(signal.SIGKILL, 10), (signal.SIGSTOP, 30)], ids=["dies", "hangs"])
def test_a_server_over_postgresql_that_fails_in_the_middle(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sent: signal.Signals, seconds: float
) -> None:
    with postgresql() as backend:
        with mlflow_server(tmp_path / "server", backend=backend) as server:
            port = int(server.uri.rsplit(":", 1)[1])
            monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
            with tracked.started("random") as run:
                run.epoch(1, tracked.history(1))
                _wait_for_epochs(1)
                server.signal(sent)
                began = time.monotonic()
                for epoch in (2, 3):
                    run.epoch(epoch, tracked.history(epoch))
                run.finish(tracked.write_training(workspace, "random"))
                assert time.monotonic() - began < seconds
        with mlflow_server(tmp_path / "server", backend=backend, port=port):
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


def _wait_for_epochs(count: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if tracked.runs() and len(tracked.steps(tracked.run_named("random/all"), "loss")) == count:
            return
        time.sleep(0.2)
    raise AssertionError("the server was not told of the epochs")
