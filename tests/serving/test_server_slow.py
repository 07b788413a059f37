"""`speech-emotion serve` under many clients, fuzzers and a changing champion; and beside MLflow's own server."""

import base64
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import recordings, tracked
from helpers.emotion_server import EmotionServer, emotion_server, records
from helpers.services import mlflow_server, scoring_server
from helpers.tiny_package import make_package
from speech_emotion.audio.decode import load
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.windows import Listener
from speech_emotion.registry.model_resolution import PRETRAINED
from speech_emotion.registry.publish import publish
from speech_emotion.registry.versions import CHAMPION
from speech_emotion.tracking import connection

pytest_plugins = ("helpers.mlflow_fixtures",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WAV = recordings.encoded(recordings.tone())
CHAMPION_URI = f"models:/{tracked.MODEL}@{CHAMPION}"
FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_package(tmp_path / "package").folder


def benchmark(root: Path, server: EmotionServer, clients: int, seconds: float) -> "subprocess.Popen[str]":
    options = ["--uri", server.uri, "--clients", str(clients), "--seconds", str(seconds), "--json"]
    script = str(root / "benchmarks" / "serving.py")
    return subprocess.Popen([sys.executable, script, *options], stdout=subprocess.PIPE, text=True)


def result(process: "subprocess.Popen[str]") -> dict[str, Any]:
    output, _ = process.communicate(timeout=300)
    found: dict[str, Any] = json.loads(output)
    return found


def test_200_clients_at_once_get_answers_or_an_honest_503(root: Path, tmp_path: Path) -> None:
    with emotion_server(tmp_path / "server", processes=2, waiting=16) as server:
        server.predict(WAV)
        before = server.memory()

        found = result(benchmark(root, server, clients=200, seconds=20))

        assert set(found["statuses"]) <= {"200", "503"}
        assert found["statuses"]["200"] > 100
        assert server.memory() < 1.5 * before
        assert server.events("worker ended") == []


def champion(number: int) -> None:
    tracked.client().set_registered_model_alias(tracked.MODEL, CHAMPION, str(number))


def test_a_new_champion_is_picked_up_without_losing_a_request(root: Path, workspace: Path, tmp_path: Path) -> None:
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

    # its package is in the cache now: nothing that takes seconds is needed
    with emotion_server(tmp_path / "again", "--model", CHAMPION_URI, environment=environment) as server:
        assert server.predict(WAV)[0]["model_version"] == "2"
        assert server.work_seconds() < 5


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


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_outlives_its_registry(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow_server(tmp_path / "mlflow", backend=f"sqlite:///{tmp_path}/server.db") as registry:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
        tracked.package(workspace, seed=0)
        publish(workspace, corpus=tracked.CORPUS)
        champion(1)
        environment = {"MLFLOW_TRACKING_URI": registry.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        with emotion_server(tmp_path / "server", "--model", CHAMPION_URI, environment=environment) as server:
            assert server.predict(WAV)[0]["model_version"] == "1"
            registry.kill()

            wait_until(lambda: bool(server.events("champion not polled")))

            assert server.predict(WAV)[0]["model_version"] == "1"


def test_both_servers_answer_as_python_does_on_100_utterances(workspace: Path, tmp_path: Path, tess_dir: Path) -> None:
    utterances = sorted(tess_dir.rglob("*.wav"))[::28]
    assert len(utterances) == 100
    shutil.copytree(PRETRAINED, workspace / "models" / tracked.CORPUS / "package")
    publish(workspace, corpus=tracked.CORPUS)
    champion(1)
    recognizer = Recognizer.load(PRETRAINED)
    sent = [*(path.read_bytes() for path in utterances), doubtful(recognizer, utterances)]
    expected = [recognizer.predict(one) for one in sent]
    environment = {"MLFLOW_TRACKING_URI": connection.locate().uri}

    long = recordings.encoded(np.concatenate([load(path, recordings.RATE) for path in utterances[:6]]))
    with emotion_server(tmp_path / "ours", "--model", CHAMPION_URI, environment=environment) as server:
        ours = [row for some in batches(sent) for row in server.predict(*some)]
        [our_long] = server.predict(long)
    with scoring_server(CHAMPION_URI, tmp_path / "mlflow", environment) as served:
        theirs = [row for some in batches(sent) for row in predictions(served.uri, records(*some))]
        [their_long] = predictions(served.uri, records(long))

    windows = Listener(recognizer)(long).windows
    assert len(windows) > 5
    for answer in (our_long, their_long):
        assert [(one["start"], one["end"], one["label"], one["sure"]) for one in answer["windows"]] == [
            (one.start, one.end, one.prediction.label, one.prediction.sure) for one in windows
        ]
    for row, other, prediction in zip(ours, theirs, expected, strict=True):
        assert row.keys() == other.keys()
        exact = {"label", "sure", "model", "model_version", "package_digest"}
        assert {key: row[key] for key in exact} == {key: other[key] for key in exact}
        assert (row["label"], len(row["windows"])) == (prediction.label, len(other["windows"]))
        for one in (row, other):
            assert one["confidence"] == pytest.approx(prediction.confidence, abs=1e-6)
            assert one["probabilities"] == pytest.approx(dict(prediction.probabilities), abs=1e-6)


def doubtful(recognizer: Recognizer, utterances: list[Path]) -> bytes:
    """Return two voices at once, of which the model says that it is not sure."""
    for one, other in zip(utterances, reversed(utterances), strict=True):
        voices = [load(path, recordings.RATE) for path in (one, other)]
        length = min(map(len, voices))
        mixed = recordings.encoded(sum(voice[:length] for voice in voices) / 2)
        if not recognizer.predict(mixed).sure:
            return mixed
    raise AssertionError("the model is sure of everything")


def batches(sent: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(sent), 10):
        yield sent[start : start + 10]


def predictions(uri: str, content: dict[str, Any]) -> list[dict[str, Any]]:
    body = json.dumps(content).encode()
    request = urllib.request.Request(f"{uri}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        found: list[dict[str, Any]] = json.load(response)["predictions"]
        return found


def test_schemathesis_finds_nothing(tmp_path: Path, package: Path) -> None:
    with emotion_server(tmp_path / "server", "--model", package) as server:
        done = subprocess.run(
            # which texts are recordings, a schema cannot say
            [
                str(Path(sys.executable).parent / "schemathesis"),
                *("run", f"{server.uri}/openapi.json", "--max-examples", "40", "--seed", "1", "--no-color"),
                *("--exclude-checks", "positive_data_acceptance"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

        assert done.returncode == 0, done.stdout
        assert server.events("error") == []


def test_a_fuzzer_on_recordings_finds_nothing(tmp_path: Path, package: Path) -> None:
    """FUZZ_SECONDS says how long it tries."""
    seeds = [WAV, *(recordings.lossy(name, 0.5) for name in recordings.LOSSY)]
    seeds += [recordings.encoded(recordings.tone(0.5), name) for name in ("FLAC", "AIFF", "AU", "CAF", "RF64", "NIST")]
    with emotion_server(tmp_path / "server", "--model", package, processes=2) as server:
        server.predict(*seeds[:5])
        before, statuses, end = server.memory(), set(), time.monotonic() + FUZZ_SECONDS
        peak = [before]

        def fuzz(seed: int) -> None:
            draw = random.Random(seed)
            while time.monotonic() < end:
                sent = mutated(draw, seeds)
                status, body, _ = server.ask(records(sent))
                statuses.add(status)
                peak[0] = max(peak[0], server.memory())
                if status not in {200, 400, 503}:
                    raise AssertionError(f"{status} {body!r} for {base64.b64encode(sent).decode()}")

        threads = [threading.Thread(target=fuzz, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        print(f"{len(server.events('request'))} requests, at most {peak[0] / before:.2f} times the memory of before")
        assert statuses == {200, 400}
        assert server.memory() < 1.5 * before
        assert server.events("error") == []
        assert server.events("worker ended") == server.events("worker timed out") == []


def mutated(draw: random.Random, seeds: list[bytes]) -> bytes:
    """Return a recording with some of its bytes changed, left out, doubled or taken from another."""
    found = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        # the head is where the decisions are
        start = int(len(found) * draw.random() ** 4)
        length = draw.choice((1, 1, 2, 4, 16, 256))
        match draw.randrange(6):
            case 0 if found:
                found[min(start, len(found) - 1)] ^= 1 << draw.randrange(8)
            case 1:
                found[start : start + length] = draw.randbytes(length)
            case 2:
                del found[start : start + length]
            case 3:
                found[start:start] = found[start : start + length]
            case 4:
                found[start : start + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
            case _:
                other = draw.choice(seeds)
                at = draw.randrange(len(other))
                found[start : start + length] = other[at : at + length]
    return bytes(found) or b"\0"
