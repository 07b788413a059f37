"""Start and stop real services on free ports: PostgreSQL, S3, MLflow, a server that hangs."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import fsspec
import pytest
from moto.server import ThreadedMotoServer


@dataclass
class Service:
    """A running service."""

    uri: str
    process: subprocess.Popen[bytes]

    def signal(self, sent: signal.Signals) -> None:
        """Send a signal to its process group; after SIGSTOP it accepts connections and never answers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, sent)

    def kill(self) -> None:
        """Kill its process group."""
        self.signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def s3(bucket: str) -> Iterator[str]:
    """Start an S3 server with a bucket, set its credentials, and yield its address."""
    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        server.start()
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket=bucket)
        try:
            yield address
        finally:
            server.stop()


def use_s3(address: str, patch: pytest.MonkeyPatch) -> None:
    """Make fsspec use the S3 server at an address, in this process and in new ones."""
    patch.setenv("FSSPEC_S3_ENDPOINT_URL", address)
    patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": address})  # this process has read the environment already
    forget_connections()


def forget_connections() -> None:
    """Clear the connections that fsspec caches with their credentials."""
    for name in ("s3", "file"):
        fsspec.get_filesystem_class(name).clear_instance_cache()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@dataclass
class Database:
    """A PostgreSQL server that can be stopped and started again with its data."""

    uri: str
    control: list[str | Path]
    options: list[str | Path]
    runs: bool = False

    def start(self) -> None:
        _run_postgresql([*self.control, *self.options, "start"])
        self.runs = True

    def stop(self) -> None:
        """Stop it as a crash would."""
        if self.runs:
            _run_postgresql([*self.control, "-m", "immediate", "stop"])
        self.runs = False


@contextmanager
def postgresql() -> Iterator[Database]:
    """Start a PostgreSQL server with an empty database."""
    programs, user = _postgresql_programs(), _unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    data, port = folder / "data", free_port()
    os.chown(folder, user.pw_uid, user.pw_gid)
    _run_postgresql(
        [programs / "initdb", "--auth=trust", "--username=mlflow", "--no-sync", "--encoding=UTF8", "-D", data]
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    server = Database(
        f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres",
        [programs / "pg_ctl", "-D", data, "-w"],
        ["-l", folder / "log", "-o", options],
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mlflow_server(folder: Path, *, backend: str, port: int | None = None) -> Iterator[Service]:
    """Start `mlflow server` with a database and a folder for artifacts, and wait until it answers."""
    port = port or free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", backend]
    command = ["server", *options, "--artifacts-destination", str(folder / "artifacts")]
    with _mlflow(command, folder, f"http://127.0.0.1:{port}", "/health") as service:
        yield service


@contextmanager
def scoring_server(model_uri: str, folder: Path, environment: dict[str, str]) -> Iterator[Service]:
    """Start `mlflow models serve` for a model."""
    port = free_port()
    command = ["models", "serve", "-m", model_uri, "--env-manager", "local", "--port", str(port)]
    with _mlflow(command, folder, f"http://127.0.0.1:{port}", "/ping", environment) as service:
        yield service


@contextmanager
def hanging_server() -> Iterator[str]:
    """Yield the address of a server with which one can connect, and which never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def _mlflow(
    command: list[str], folder: Path, uri: str, health: str, environment: dict[str, str] | None = None
) -> Iterator[Service]:
    folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            cwd=folder,
            env={**inherited, "PATH": path, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    service = Service(uri, process)
    try:
        _wait_for(uri + health, process, folder / "server.log")
        yield service
    finally:
        service.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    raise AssertionError(f"{url} does not answer:\n{log.read_text(errors='replace')[-4000:]}")


def _postgresql_programs() -> Path:
    """Return the folder of initdb and pg_ctl, which is not in PATH on Debian."""
    versions = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    path = os.pathsep.join([os.environ["PATH"], *versions])
    found = shutil.which("initdb", path=path)
    assert found is not None, "PostgreSQL is not installed: scripts/system-packages installs it"
    return Path(found).parent


def _unprivileged_user() -> pwd.struct_passwd:
    """Return the user to run PostgreSQL as, because it refuses root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    names = {entry.pw_name for entry in pwd.getpwall()}
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


def _run_postgresql(command: list[str | Path]) -> None:
    user = _unprivileged_user()
    subprocess.run(
        command,
        # that user may not read the current folder
        cwd="/",
        user=user.pw_uid,
        group=user.pw_gid,
        stdin=subprocess.DEVNULL,
        # the server inherits these: a pipe would never end
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
