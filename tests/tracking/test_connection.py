import signal
import subprocess
import sys
from pathlib import Path

import pytest

from speech_emotion.tracking import connection

pytest_plugins = ("helpers.mlflow_fixtures",)

LOCATIONS = [
    # MLFLOW_TRACKING_URI, DVC_ROOT, the expected URI, the expected folder of artifacts
    ("", "", "sqlite:///{here}/mlflow.db", "{here}/mlruns"),
    ("", "{here}/elsewhere", "sqlite:///{here}/elsewhere/mlflow.db", "{here}/elsewhere/mlruns"),
    ("sqlite:///{here}/deep/x.db", "{here}/elsewhere", "sqlite:///{here}/deep/x.db", "{here}/deep/mlruns"),
    ("sqlite:///x.db", "", "sqlite:///{here}/x.db", "{here}/mlruns"),
    ("http://127.0.0.1:5000/", "", "http://127.0.0.1:5000", None),
    ("postgresql://u@h/d", "", "postgresql://u@h/d", "{here}/mlruns"),
]


@pytest.mark.parametrize(("uri", "dvc_root", "expected", "artifacts"), LOCATIONS)
def test_locate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, dvc_root: str, expected: str, artifacts: str | None
) -> None:
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    for name, value in {"MLFLOW_TRACKING_URI": uri, "DVC_ROOT": dvc_root}.items():
        monkeypatch.setenv(name, value.format(here=tmp_path))

    folder = None if artifacts is None else Path(artifacts.format(here=tmp_path))
    assert connection.locate() == connection.MlflowLocation(expected.format(here=tmp_path), folder)


def test_locate_below_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").touch()
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")

    assert connection.locate().artifacts == tmp_path / "mlruns"


def test_interrupted_creation_of_the_database(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    connection.quiet()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    (workspace / "mlflow.db").unlink()
    with monkeypatch.context() as patched:
        # Ctrl-C after the tables were created, before they were filled
        patched.setattr(SqlAlchemyStore, "_create_default_experiment", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            connection.connect(connection.locate())
    assert not list(workspace.glob("mlflow.db*"))

    client = connection.connect(connection.locate())

    assert [one.name for one in client.search_experiments()] == ["Default"]
    assert [path.name for path in workspace.glob("mlflow.db*")] == ["mlflow.db"]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "first",
    [
        "from speech_emotion.tracking import connection; connection.connect(connection.locate())",
        "from speech_emotion.registry import versions; versions.fetch('models:/nobody/1')",
    ],
    ids=["client", "model"],
)
def test_no_telemetry(workspace: Path, first: str) -> None:
    program = (
        "import os\n"
        # an environment from `make setup` sets these for every process
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
