"""Start `speech-emotion serve` on a free port with limits chosen by a test, and send it requests."""

import base64
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from ruamel.yaml import YAML

from speech_emotion.config.monitoring import MonitorSettings

JSON = {"Content-Type": "application/json"}


@dataclass
class EmotionServer:
    """A running server."""

    uri: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def port(self) -> int:
        port = urlsplit(self.uri).port
        assert port is not None
        return port

    def ask(
        self, body: Any = None, headers: Mapping[str, str] = JSON, *, path: str = "/invocations", method: str = "POST"
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Send a request; a body that is neither bytes, an iterator nor None is sent as JSON."""
        data = body if body is None or isinstance(body, (bytes, Iterator)) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            # the server may have answered before it has read the body
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, data, dict(headers))
            response = connection.getresponse()
            return response.status, response.read(), dict(response.getheaders())
        finally:
            connection.close()

    def predict(self, *recordings: bytes) -> list[dict[str, Any]]:
        """Return the predictions for recordings."""
        status, body, _ = self.ask(records(*recordings))
        assert status == 200, body
        predictions: list[dict[str, Any]] = json.loads(body)["predictions"]
        return predictions

    def processes(self) -> list[psutil.Process]:
        """Return its processes, itself first."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that decode and predict."""
        found = []
        for one in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it has just been killed
                if any("onnxruntime" in part.path for part in one.memory_maps()):
                    found.append(one)
        return found

    def memory(self) -> int:
        """Return the resident bytes of all its processes."""
        return sum(process.memory_info().rss for process in self.processes())

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of its log about an event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == name]

    def wait_for(self, name: str, **details: Any) -> list[dict[str, Any]]:
        """Wait for lines of its log about an event with these details, and return them."""
        found: list[dict[str, Any]] = wait_until(lambda: [line for line in self.events(name) if line | details == line])
        return found


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait until a condition holds, and return its value."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def records(*recordings: bytes) -> dict[str, Any]:
    """Return a request as JSON content."""
    return {"dataframe_records": [{"audio": base64.b64encode(one).decode()} for one in recordings]}


@contextmanager
def started(
    command: list[str], folder: Path, output: Path, errors: Path, environment: Mapping[str, str] | None = None
) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a process whose output goes to files, and stop it by SIGTERM, and after a minute by SIGKILL."""
    with open(output, "ab") as to_output, open(errors, "ab") as to_errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=to_output,
            stderr=to_errors,
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()


@contextmanager
def emotion_server(
    folder: Path,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    log: Mapping[str, object] | None = None,
    **settings: object,
) -> Iterator[EmotionServer]:
    """Start the server in a folder; `settings` override the section `serve`, `log` the section `monitor.log`."""
    folder.mkdir(parents=True, exist_ok=True)
    limits = {
        "body_mb": 4.0,
        "recordings": 16,
        "processes": 1,
        "waiting": 4,
        "answer_seconds": 20.0,
        "receive_seconds": 10.0,
        "stop_seconds": 20.0,
        "poll_seconds": 0.5,
    }
    with open(folder / "params.yaml", "w") as file:
        monitor = MonitorSettings().model_dump(mode="json")
        YAML().dump({"serve": limits | settings, "monitor": monitor | {"log": monitor["log"] | dict(log or {})}}, file)
    log = folder / "server.log"
    command = [sys.executable, "-m", "speech_emotion", "serve", "--port", "0", *map(str, arguments)]
    with started(command, folder, log, folder / "server.err", environment) as process:
        server = EmotionServer("", process, log)
        wait_until_ready(server, folder / "server.err")
        yield server


def wait_until_ready(server: EmotionServer, errors: Path) -> None:
    """Wait until the server is ready, and set its address."""
    wait_until(lambda: server.events("ready") or server.process.poll() is not None, seconds=300)
    assert server.process.poll() is None, errors.read_text()
    server.uri = server.events("ready")[0]["url"].replace("0.0.0.0", "127.0.0.1")
