import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers import tracked
from helpers.services import hanging_server
from speech_emotion.cli import app
from speech_emotion.core.errors import mask_credentials
from speech_emotion.tracking import connection

pytest_plugins = ("helpers.mlflow_fixtures",)

LOCATIONS = [
    # MLFLOW_TRACKING_URI, DVC_ROOT, the expected URI, the expected folder of artifacts
    ("", "", "sqlite:///{here}/mlflow.db", "{here}/mlruns"),
    ("", "{here}/elsewhere", "sqlite:///{here}/elsewhere/mlflow.db", "{here}/elsewhere/mlruns"),
    ("sqlite:///{here}/deep/x.db", "{here}/elsewhere", "sqlite:///{here}/deep/x.db", "{here}/deep/mlruns"),
    ("sqlite:///x.db", "", "sqlite:///{here}/x.db", "{here}/mlruns"),
    ("http://127.0.0.1:5000/", "", "http://127.0.0.1:5000", None),
    ("postgresql://u@h/d", "", "postgresql+psycopg2://u@h/d", "{here}/mlruns"),
]

UNUSABLE = {
    "mlruns": "sqlite:///mlflow.db",
    "file:./mlruns": "sqlite:///mlflow.db",
    "localhost:5000": "Write http://localhost:5000",
    "databricks://me": "Write http://host:port",
    "sqlite://mlflow.db": "Write http://host:port, sqlite:///mlflow.db",
}

COMMANDS = [
    ("runs",),
    ("publish",),
    ("promote",),
    ("compare", "1", "2"),
    ("predict", "x.wav", "--model", "models:/speech-emotion-tess@champion"),
    ("serve", "--model", "models:/x@champion", "--port", "0"),
]

PASSWORD = "pass/w@rd"
DEAD = {
    "server with a password": f"http://ada:{PASSWORD}@127.0.0.1:9",
    "PostgreSQL": f"postgresql+psycopg2://ada:{PASSWORD.replace('@', '%40').replace('/', '%2F')}@127.0.0.1:9/mlflow",
}


@pytest.fixture
def clone(workspace: Path, root: Path) -> Path:
    """A workspace with the settings of the repository."""
    (workspace / "params.yaml").write_text((root / "params.yaml").read_text())
    return workspace


def run(*arguments: str) -> str:
    """Run a command that fails within ten seconds, and return its one message."""
    began = time.monotonic()
    done = CliRunner().invoke(app, arguments)
    assert time.monotonic() - began < 10
    assert (done.exit_code, type(done.exception)) == (1, SystemExit), done.output
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.output


@pytest.mark.parametrize(("uri", "dvc_root", "expected", "artifacts"), LOCATIONS)
def test_locate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, dvc_root: str, expected: str, artifacts: str | None
) -> None:
    (tmp_path / "params.yaml").touch()
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    for name, value in {"MLFLOW_TRACKING_URI": uri, "DVC_ROOT": dvc_root}.items():
        monkeypatch.setenv(name, value.format(here=tmp_path))

    folder = None if artifacts is None else Path(artifacts.format(here=tmp_path))
    assert connection.locate() == connection.MlflowLocation(expected.format(here=tmp_path), folder)


@pytest.mark.parametrize("uri", UNUSABLE)
def test_unusable_address(clone: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    before = {path.name for path in clone.iterdir()}

    message = run("runs")

    assert f"MLFLOW_TRACKING_URI={uri}: not an MLflow server or database" in message
    assert UNUSABLE[uri] in message
    assert {path.name for path in clone.iterdir()} == before


@pytest.mark.parametrize("state", DEAD)
def test_dead_server_or_database(
    clone: Path, monkeypatch: pytest.MonkeyPatch, state: str, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD[state])

    for message in (run("registry"), run("publish")):
        assert "Check that the" in message
        assert "ada" not in message
        assert "w@rd" not in message
    assert "w%40rd" not in capfd.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_clear_and_prints_no_password(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "localhost:5000")
    assert "Write http://localhost:5000" in run(*command)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@127.0.0.1:9")
    assert "secret" not in run(*command) + "".join(capfd.readouterr())


@pytest.mark.parametrize("call", ["cli as it\nit.app = f\nit.main()", "core.process as it\nit.run_stage(f)"])
def test_tracebacks_have_no_credentials(tmp_path: Path, call: str) -> None:
    (tmp_path / "p.py").write_text(f"def f(): raise OSError('http://ada:secret@host')\nimport speech_emotion.{call}")

    done = subprocess.run([sys.executable, "p.py"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "OSError: http://***@host" in done.stderr
    assert "ada:secret" not in done.stderr


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("at http://u:p@h:5000/x.", "at http://***@h:5000/x."),
        ("postgresql://u:p/w@rd@h/d", "postgresql://***@h/d"),
        ("https://token@h", "https://***@h"),
        ("mysql://h/d?user=u&password=p", "mysql://h/d?user=u&password=***"),
        ("models:/name@champion at http://h:1/a", "models:/name@champion at http://h:1/a"),
    ],
)
def test_mask_credentials(text: str, masked: str) -> None:
    assert mask_credentials(text) == masked


def test_hanging_server(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hanging_server() as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert f"MLflow at {uri} failed" in run("history")


def test_locked_database(clone: Path) -> None:
    with closing(sqlite3.connect("mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "Another process holds the database" in run("publish")
        other.rollback()
        # reading is possible, writing is not
        other.execute("BEGIN IMMEDIATE")
        assert "Another process holds the database" in run("publish")


@pytest.mark.parametrize("kept", [0, 4096])
def test_damaged_database(clone: Path, kept: int) -> None:
    content = Path("mlflow.db").read_bytes()
    Path("mlflow.db").write_bytes(content[:kept] + b"damaged!" * ((len(content) - kept) // 8))

    assert "The file is damaged" in run("runs")


def test_deleted_experiment(clone: Path) -> None:
    client = tracked.client()
    client.delete_experiment(client.create_experiment("speech-emotion-tess"))

    for command in ("publish", "runs"):
        assert "mlflow experiments restore --experiment-id" in run(command)


@contextmanager
def recording_server(status: int = 200, location: str = "") -> Iterator[tuple[str, list[str | None]]]:
    """Yield the address of a server that answers with this status, and the Authorization headers that it received."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Location", location + self.path)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_credentials_do_not_follow_redirects(clone: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    with recording_server() as (elsewhere, leaked), recording_server(status, elsewhere) as (uri, seen):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        message = run("registry")

    assert "secret" not in message
    assert set(seen) == {"Bearer secret"}
    assert leaked == []


def test_cut_off_creation_of_the_database(workspace: Path) -> None:
    (workspace / "mlflow.db").unlink()
    program = (
        "import signal\n"
        "from speech_emotion.tracking import connection\n"
        "connection.quiet()\n"
        "from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore\n"
        # Ctrl-C after the tables were created, before they were filled
        "SqlAlchemyStore._create_default_experiment = lambda *_: signal.raise_signal(signal.SIGINT)\n"
        "connection.connect(connection.locate())\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, stderr=subprocess.DEVNULL).returncode != 0
    assert not list(workspace.glob("mlflow.db*"))

    assert [one.name for one in tracked.client().search_experiments()] == ["Default"]
    assert [path.name for path in workspace.glob("mlflow.db*")] == ["mlflow.db"]


def test_no_telemetry(workspace: Path) -> None:
    program = (
        "import os\n"
        # an environment from `make setup` sets these for every process
        "for name in ('MLFLOW_DISABLE_TELEMETRY', 'DO_NOT_TRACK', 'CI', 'PYTEST_CURRENT_TEST'):\n"
        "    os.environ.pop(name, None)\n"
        "from speech_emotion.tracking import connection\n"
        "connection.connect(connection.locate())\n"
        "from mlflow.telemetry import get_telemetry_client\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled\n"
        "print(is_telemetry_disabled(), get_telemetry_client())\n"
    )

    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)

    assert done.stdout == "True None\n"
