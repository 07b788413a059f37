"""Test `speech-emotion serve` with many clients, a changing champion and generated requests."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers import recordings, tracked
from helpers.emotion_server import EmotionServer, emotion_server, records, wait_until
from helpers.services import mlflow_server
from speech_emotion.registry.publish import publish
from speech_emotion.registry.versions import CHAMPION
from speech_emotion.serving.protocol import CONNECTIONS
from speech_emotion.serving.server import raise_file_limit
from speech_emotion.tracking import connection

pytest_plugins = ("helpers.mlflow_fixtures",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WAV = recordings.encoded(recordings.tone())
CHAMPION_URI = f"models:/{tracked.MODEL}@{CHAMPION}"


def benchmark(root: Path, server: EmotionServer, clients: int, seconds: float) -> "subprocess.Popen[str]":
    options = ["--uri", server.uri, "--clients", str(clients), "--seconds", str(seconds), "--json"]
    script = str(root / "benchmarks" / "serving.py")
    return subprocess.Popen([sys.executable, script, *options], stdout=subprocess.PIPE, text=True)


def result(process: "subprocess.Popen[str]") -> dict[str, Any]:
    output, _ = process.communicate(timeout=300)
    found: dict[str, Any] = json.loads(output)
    return found


def champion(number: int) -> None:
    tracked.client().set_registered_model_alias(tracked.MODEL, CHAMPION, str(number))


def test_new_champion_loses_no_request(root: Path, workspace: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        tracked.package(workspace, seed=seed)
        publish(workspace, corpus=tracked.CORPUS)
    champion(1)
    environment = {"MLFLOW_TRACKING_URI": connection.locate().uri}
    # room for all of them: no 503 is to be expected
    patient = {"waiting": 300, "answer_seconds": 120.0, "body_mb": 16.0}
    with emotion_server(tmp_path / "server", "--model", CHAMPION_URI, environment=environment, **patient) as server:
        crowd = benchmark(root, server, clients=200, seconds=15)
        with asking(server, clients=8) as answers:
            wait_until(lambda: len(answers) > 20)
            champion(2)
            wait_until(lambda: bool(answers) and answers[-1][1] == "2")

        assert set(result(crowd)["statuses"]) == {"200"}
        assert {status for status, _ in answers} == {200}
        assert {version for _, version in answers} == {"1", "2"}
        assert len(server.events("model changed")) == 1
        # the other model's worker has gone
        wait_until(lambda: len(server.workers()) == 1)


@contextmanager
def asking(server: EmotionServer, *, clients: int) -> Iterator[list[tuple[int, str]]]:
    """Have clients ask all the time; give status and version of each answer."""
    answers: list[tuple[int, str]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            status, body, _ = server.ask(records(WAV))
            answers.append((status, json.loads(body)["predictions"][0]["model_version"] if status == 200 else ""))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_registry_that_is_gone(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow_server(tmp_path / "mlflow", backend=f"sqlite:///{tmp_path}/server.db") as registry:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
        tracked.package(workspace, seed=0)
        publish(workspace, corpus=tracked.CORPUS)
        champion(1)
        environment = {"MLFLOW_TRACKING_URI": registry.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        with emotion_server(tmp_path / "server", "--model", CHAMPION_URI, environment=environment) as server:
            assert server.predict(WAV)[0]["model_version"] == "1"
            registry.kill()

            server.wait_for("champion not polled")

            assert server.predict(WAV)[0]["model_version"] == "1"


def test_schemathesis(tmp_path: Path, model: Path) -> None:
    with emotion_server(tmp_path / "server", "--model", model) as server:
        program = str(Path(sys.executable).parent / "schemathesis")
        options = ["--max-examples", "40", "--seed", "1", "--no-color"]
        # a schema cannot say which texts are recordings
        options += ["--exclude-checks", "positive_data_acceptance"]
        command = [program, "run", f"{server.uri}/openapi.json", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

        assert done.returncode == 0, done.stdout
        assert server.events("error") == []


def test_too_many_connections(tmp_path: Path, model: Path) -> None:
    raise_file_limit()
    with emotion_server(tmp_path / "server", "--model", model, receive_seconds=60.0) as server, ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as late:
            assert late.recv(65536).startswith(b"HTTP/1.1 503 ")

        stack.close()
        wait_until(lambda: server.ask(records(WAV))[0] == 200)
