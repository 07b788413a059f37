"""Test `speech-emotion serve` on a real port with good and hostile requests."""

import base64
import io
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from helpers import recordings
from helpers.emotion_server import JSON, EmotionServer, emotion_server, records, wait_until
from helpers.tiny_package import LABELS
from speech_emotion.core.errors import UserError
from speech_emotion.inference.recognizer import Recognizer

TONE = recordings.tone()
WAV = recordings.encoded(TONE)
TEXT = base64.b64encode(WAV).decode()
DATA_URL = f"data:audio/wav;base64,{TEXT}"
BODY_MB = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, enrolled_model: Path) -> Iterator[EmotionServer]:
    """A server with one worker, shared by the tests of this file."""
    folder = tmp_path_factory.mktemp("server")
    with emotion_server(folder, "--model", enrolled_model, body_mb=float(BODY_MB), receive_seconds=1.5) as running:
        yield running


def refused(server: EmotionServer, body: Any, headers: Any = JSON, **options: Any) -> tuple[int, str]:
    """Send a bad request; check that the response is one short message without paths, and that the server lives."""
    status, answer, _ = server.ask(body, headers, **options)
    content = json.loads(answer)
    assert set(content) == {"error_code", "message"}
    message = str(content["message"])
    assert len(message) < 300
    assert "\n" not in message
    assert "Traceback" not in message
    assert not re.search(r"\.py\b|site-packages|/usr|/tmp|/home", message)
    assert server.predict(WAV)
    return status, message


def test_same_answer_as_python(server: EmotionServer, enrolled_model: Path) -> None:
    recognizer = Recognizer.load(enrolled_model)
    expected = recognizer.predict(WAV)

    [answer] = server.predict(WAV)

    assert answer == {
        "label": expected.label,
        "confidence": pytest.approx(expected.confidence, abs=1e-6),
        "sure": True,
        "probabilities": pytest.approx(dict(expected.probabilities), abs=1e-6),
        "windows": [],
        "model": "",
        "model_version": "",
        "package_digest": recognizer.package.digest,
    }


def test_mlflow_forms_and_speaker_profiles(server: EmotionServer, enrolled_model: Path) -> None:
    recognizer = Recognizer.load(enrolled_model)
    voice = recordings.encoded(recordings.tone(5.0))
    profile = recognizer.enroll([voice])
    text = profile.model_dump_json()
    enrolled = {"audio": TEXT, "profile": text}
    forms: list[dict[str, Any]] = [
        {"dataframe_records": [enrolled, {"audio": TEXT, "profile": None}]},
        {"dataframe_split": {"columns": ["audio", "profile"], "data": [[TEXT, text], [TEXT, ""]], "index": [0, 1]}},
        {"inputs": {"audio": [TEXT, TEXT], "profile": [text, None]}},
        {"instances": [{"audio": TEXT, "references": [base64.b64encode(voice).decode()]}, {"audio": DATA_URL}]},
        {"instances": [enrolled] * 16, "params": {}},
    ]

    expected, plain = recognizer.with_profile(profile).predict(WAV), recognizer.predict(WAV)
    assert dict(expected.probabilities) != pytest.approx(dict(plain.probabilities), abs=1e-3)
    for form in forms:
        status, body, _ = server.ask(form)
        assert status == 200, body
        first, second, *_ = json.loads(body)["predictions"]
        assert first["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-5)
        assert first["sure"] == expected.sure
        if "instances" not in form or len(form["instances"]) == 2:
            assert second["probabilities"] == pytest.approx(dict(plain.probabilities), abs=1e-5)
    status, body, _ = server.ask({"inputs": {"audio": [TEXT, TEXT], "profile": text}})
    assert [one["sure"] for one in json.loads(body)["predictions"]] == [expected.sure] * 2
    assert str(profile.mean[0]) not in server.log.read_text()


def test_profile_for_another_model(server: EmotionServer, enrolled_model: Path) -> None:
    profile = Recognizer.load(enrolled_model).enroll([WAV]).model_copy(update={"spec_digest": "0" * 64})

    status, message = refused(server, {"instances": [{"audio": TEXT, "profile": profile.model_dump_json()}]})

    assert (status, message[:45]) == (400, "row 0: the profile was made for another model")


def test_windows_of_long_recording(server: EmotionServer) -> None:
    [answer] = server.predict(recordings.encoded(recordings.tone(4.0)))

    assert [(one["start"], one["end"], set(one["probabilities"])) for one in answer["windows"]] == [
        (0.0, 3.0, set(LABELS)),
        (1.0, 4.0, set(LABELS)),
    ]


def test_documented_curl(server: EmotionServer, root: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(WAV)
    text = (root / "docs/serving.md").read_text()
    [line] = re.findall(r"^    (curl .*?^)    (END)$", text, flags=re.DOTALL | re.MULTILINE)
    script = "".join(line).replace("\n    ", "\n").replace("localhost:5001", server.uri)

    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout)["predictions"] == server.predict(WAV)


def test_documented_client(server: EmotionServer, root: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(WAV)
    [program] = re.findall(r"```python\n(.*?)```", (root / "docs/serving.md").read_text(), flags=re.DOTALL)
    here = program.replace("http://localhost:5001", server.uri)

    done = subprocess.run([sys.executable, "-c", here, "clip.wav"], cwd=tmp_path, capture_output=True, text=True)

    assert done.stdout == f"{[row['label'] for row in server.predict(WAV)]}\n"


def test_get_endpoints(server: EmotionServer) -> None:
    server.predict(WAV)

    for path, expected in (
        ("/ping", rb"\n"),
        ("/health", rb"\n"),
        ("/version", rb"\d+\.\d+\.\d+"),
        ("/metrics", rb'(?s).*speech_emotion_requests_total\{path="/invocations",status="200"\}.*'),
    ):
        status, body, _ = server.ask(path=path, method="GET")
        assert (status, bool(re.fullmatch(expected, body))) == (200, True)
    assert server.ask(path="/ping", method="HEAD")[:2] == (200, b"")


def test_request_log(server: EmotionServer) -> None:
    _, _, headers = server.ask(records(WAV), {**JSON, "X-Request-Id": "mine-7"})

    [line] = server.wait_for("request", id="mine-7")
    assert headers["x-request-id"] == "mine-7"
    assert (line["path"], line["status"], line["recordings"]) == ("/invocations", 200, 1)
    assert TEXT[:40] not in server.log.read_text()


HEADERS: dict[str, dict[str, str]] = {
    "no Content-Type": {},
    "text": {"Content-Type": "text/plain"},
    "CSV": {"Content-Type": "text/csv"},
    "a form": {"Content-Type": "multipart/form-data; boundary=x"},
    "another charset": {"Content-Type": "application/json; charset=latin-1"},
    "two Content-Types": {"content-type": "text/plain", **JSON},
    "gzip": {**JSON, "Content-Encoding": "gzip"},
    "Brotli": {**JSON, "Content-Encoding": "br"},
}


@pytest.mark.parametrize("name", HEADERS)
def test_unsupported_type(server: EmotionServer, name: str) -> None:
    status, message = refused(server, records(WAV), HEADERS[name])

    assert status == 415
    assert "expected Content-Type: application/json" in message or "compressed" in message


def instances(*audio: object) -> dict[str, Any]:
    return {"instances": [{"audio": one} for one in audio]}


def split(**table: object) -> dict[str, Any]:
    return {"dataframe_split": table}


ONE_KEY = "expected an object with exactly one of the keys"
NO_JSON = "the body: Invalid JSON"
BODIES: dict[str, tuple[Any, str]] = {
    "no body": (b"", NO_JSON),
    "not JSON": (b"audio=abc", NO_JSON),
    "half JSON": (b'{"instances": [', NO_JSON),
    "UTF-16": (json.dumps(records(WAV)).encode("utf-16"), NO_JSON),
    "NaN for a recording": (b'{"instances": [{"audio": NaN}]}', "instances.0.audio: Input should be"),
    "infinity in params": (b'{"instances": [{"audio": "QUJD"}], "params": {"a": -Infinity}}', "row 0: is not audio"),
    "a number too long": (b"1" * 5000, NO_JSON),
    "nested 1,050 deep": (b"[" * 1050, NO_JSON),
    "nested 100,000 deep": (b"[" * 100_000, "100000 commas and brackets"),
    "a million empty lists": (b'{"instances": [' + b"[]," * 1_000_000 + b"[]]}", "2000003 commas and brackets"),
    "thousands of objects": (instances(*["QUJD"] * 20_000), "commas and brackets; at most 16 recordings"),
    "too many": (instances(*["QUJD"] * 300), "300 recordings; at most 16"),
    "a list": ([], ONE_KEY),
    "an empty object": ({}, ONE_KEY),
    "two forms": ({"inputs": {"audio": TEXT}, "instances": []}, ONE_KEY),
    "a form twice": (b'{"instances": [], "instances": [{"audio": "QUJD"}]}', "row 0: is not audio"),
    "another key": ({**instances(TEXT), "path": "x"}, "the body: Extra inputs"),
    "params a list": ({**instances(TEXT), "params": []}, "params: Input should be"),
    "an empty list": ({"dataframe_records": []}, "dataframe_records: List should have at least 1"),
    "another column": ({"dataframe_records": [{"sound": TEXT}]}, "dataframe_records.0.audio: Field required"),
    "a column more": ({"instances": [{"audio": TEXT, "x": 1}]}, "instances.0: Extra inputs"),
    "split in another orient": ({"dataframe_split": [{"audio": TEXT}]}, "dataframe_split"),
    "split without columns": (split(data=[[TEXT]]), "dataframe_split"),
    "split with two cells": (split(columns=["audio"], data=[[TEXT, TEXT]]), "dataframe_split: each row needs a cell"),
    "inputs of nothing": ({"inputs": {"audio": []}}, "inputs.audio"),
    "a number": (instances(1.5), "instances.0.audio: Input should be a valid string"),
    "samples": (instances([0.1, 0.2]), "instances.0.audio"),
    "not base64": (instances("Say the word!"), "row 0: is not base64"),
    "base64 for URLs": (instances("_-_-"), "row 0: is not base64"),
    "a lone surrogate": (b'{"instances": [{"audio": "\\ud800"}]}', NO_JSON),
    "a URL": (instances("http://127.0.0.1:1/a.wav"), "row 0: is not base64"),
    "empty text": (instances(""), "row 0: is empty"),
    "a damaged profile": (
        {"instances": [{"audio": TEXT, "profile": "{}"}]},
        "row 0: profile: is not a speaker profile",
    ),
    "a profile that is no text": ({"instances": [{"audio": TEXT, "profile": {}}]}, "instances.0.profile: Input should"),
    "a profile of no recording": ({"inputs": {"audio": [TEXT], "profile": ["{}", "{}"]}}, "inputs: audio and profile"),
    "a reference that is no audio": (
        {"instances": [{"audio": TEXT, "references": [TEXT, "QUJD"]}]},
        "row 0: references: recording 1: is not audio",
    ),
    "too many references": ({"instances": [{"audio": TEXT, "references": [TEXT] * 16}]}, "17 recordings; at most 16"),
    "the second of two": (instances(TEXT, "QUJD"), "row 1: is not audio"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_body(server: EmotionServer, name: str) -> None:
    body, expected = BODIES[name]

    status, message = refused(server, body)

    assert status == 400
    assert expected in message


def _two_hours() -> bytes:
    """Return a FLAC of some hundred kB."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 4000, 1, "PCM_16", format="FLAC") as sound:
        block = np.full(4000 * 600, 1000, np.int16)
        for _ in range(12):
            sound.write(block)
    return file.getvalue()


AUDIO: dict[str, tuple[Callable[[], bytes], str]] = {
    **{name: bad for name, bad in recordings.BAD.items() if name != "empty"},
    "0.05 s": (lambda: recordings.encoded(TONE[:800]), "is shorter than 0.2 s (0.050 s)"),
    "one sample": (lambda: recordings.encoded(TONE[:1]), "is shorter than 0.2 s"),
    "silence": (lambda: recordings.encoded(TONE * 0), "is silent"),
    "two hours of FLAC": (lambda: _two_hours(), "is longer than 10 s"),
    "two hours of unknown length": (lambda: recordings.with_flac_length(_two_hours(), 0), "is longer than 10 s"),
}


@pytest.mark.parametrize("name", AUDIO)
def test_bad_recording(server: EmotionServer, name: str) -> None:
    make, expected = AUDIO[name]

    status, message = refused(server, records(WAV, make()))

    assert status == 400
    assert message.startswith(f"row 1: {expected}")


def test_unknown_path_and_method(server: EmotionServer) -> None:
    assert refused(server, None, path="/../etc/passwd", method="GET")[0] == 404
    assert refused(server, records(WAV), path="/")[0] == 404
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert refused(server, None, method=method) == (405, "this path accepts POST")
    assert refused(server, b"{}", path="/ping") == (405, "this path accepts GET")
    assert server.ask(method="GET")[2]["allow"] == "POST"


def test_100_mb_body(server: EmotionServer) -> None:
    before = server.memory()

    def pieces() -> Iterator[bytes]:
        for _ in range(1600):
            yield bytes(2**16)

    declared = refused(server, bytes(100 * 2**20))
    chunked = refused(server, pieces())

    assert declared == chunked == (413, "the request is larger than 4 MiB")
    assert server.memory() < 1.5 * before


def talk(server: EmotionServer, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send pieces as they are, and return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        with suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        found = b""
        with suppress(ConnectionResetError):
            while part := connection.recv(65536):
                found += part
        return found


HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.slow
def test_slow_sender(server: EmotionServer) -> None:
    slow_body = talk(server, HEAD + b"Content-Length: 1000\r\n\r\n", *(b"{" for _ in range(5)), pause=0.4)
    slow_head = talk(server, *(HEAD[at : at + 4] for at in range(0, 24, 4)), pause=0.4)
    silent = talk(server)

    assert slow_body.startswith(b"HTTP/1.1 408 ")
    assert b"the request did not arrive within 1.5 s" in slow_body
    assert slow_head.startswith(b"HTTP/1.1 408 ")
    assert silent.startswith(b"HTTP/1.1 408 ")
    assert server.predict(WAV)


GET = b"GET /ping HTTP/1.1\r\nHost: x\r\n"
NEXT = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
RAW: dict[str, bytes] = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /ping\r\n\r\n",
    "no Host": b"GET /ping HTTP/1.1\r\n\r\n",
    "two Hosts": GET + b"Host: y\r\n\r\n",
    "space before the colon": HEAD + b"Content-Length : 5\r\n\r\n{}",
    "header without name": GET + b": x\r\n\r\n",
    "zero byte in a header": GET + b"X: a\0b\r\n\r\n",
    "carriage return in a header": GET + b"X: a\rb\r\n\r\n",
    "space in the path": b"GET /ping /x HTTP/1.1\r\nHost: x\r\n\r\n",
    "letters beyond ASCII in the path": b"GET /p\xc3\xafng HTTP/1.1\r\nHost: x\r\n\r\n",
    "negative length": HEAD + b"Content-Length: -5\r\n\r\n",
    "length of 30 digits": HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n{}",
    "list of lengths": HEAD + b"Content-Length: 2, 3\r\n\r\n{}",
    "chunk size of letters": HEAD + CHUNKED + b"ZZ\r\nabc\r\n",
    "chunk size of 30 digits": HEAD + CHUNKED + b"F" * 30 + b"\r\nabc\r\n",
    "chunk longer than said": HEAD + CHUNKED + b"1\r\nabcdef\r\n0\r\n\r\n",
    "two encodings": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "unknown encoding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + NEXT,
    "length and encoding": HEAD + b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n" + NEXT,
    "encoding and no length": HEAD + b"Content-Length: 0\r\n" + CHUNKED + b"0\r\n\r\n" + NEXT,
    "length and encoding of GET": GET + b"Content-Length: 9\r\n" + CHUNKED + b"0\r\n\r\n" + NEXT,
    "large header": GET + b"X: " + b"y" * 20_000 + b"\r\n\r\n" + NEXT,
    "many headers": GET + b"".join(b"X%d: %s\r\n" % (n, b"y" * 90) for n in range(200)) + b"\r\n" + NEXT,
    "long path": b"GET /" + b"y" * 17_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n" + NEXT,
    "endless head": HEAD + b"X: " + b"y" * 2**21,
    "endless chunk head": HEAD + CHUNKED + b"1;" + b"x" * 2**17,
}


@pytest.mark.parametrize("name", RAW)
def test_bad_http(server: EmotionServer, name: str) -> None:
    before = server.memory()

    answer = talk(server, RAW[name])

    # the connection is closed: what follows is never taken for a second request
    assert re.match(rb"HTTP/1\.1 4\d\d ", answer)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close\r\n" in answer.lower()
    assert server.memory() < 1.5 * before
    assert server.predict(WAV)


def test_base64_in_short_words_costs_no_memory(server: EmotionServer) -> None:
    server.predict(WAV)
    [worker] = server.workers()
    peaks = [0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            peaks.append(worker.memory_info().rss)

    before, watcher = worker.memory_info().rss, threading.Thread(target=watch)
    watcher.start()
    status, _ = refused(server, {"instances": [{"audio": "A " * (BODY_MB * 2**19 - 100)}]})
    over.set()
    watcher.join()

    assert status == 400
    assert max(peaks) - before < 6 * BODY_MB * 2**20


def test_half_closed_client(server: EmotionServer) -> None:
    body = json.dumps(records(WAV)).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"predictions"' in answer


def test_client_that_never_reads(server: EmotionServer) -> None:
    own = psutil.Process(server.process.pid)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.settimeout(1)
        with suppress(OSError):
            while True:  # until all buffers between the two are full
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        wait_until(lambda: not any(one.raddr for one in own.net_connections()), seconds=30)

    assert server.events("response not read")
    assert server.predict(WAV)


def test_client_that_leaves(server: EmotionServer) -> None:
    for sent in (HEAD, HEAD + b"Content-Length: 1000\r\n\r\n{", HEAD + b"Content-Length: 2\r\n\r\n{}"):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            # closed with a reset, as by a machine that is switched off
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(sent)

    assert server.predict(WAV)


def test_memory_after_bad_requests(server: EmotionServer) -> None:
    """Runs last on the shared server."""
    server.predict(WAV)
    before = server.memory()
    bad = [records(make()) for make, _ in AUDIO.values()] + [body for body, _ in BODIES.values()]

    for _ in range(3):
        for body in bad:
            server.ask(body)

    assert server.memory() < 1.5 * before
    assert server.events("worker ended") == []
    assert server.events("error") == []


HEAVY = json.dumps(records(*[recordings.encoded(recordings.tone(9.5))] * 8)).encode()


@contextmanager
def heavy_requests(server: EmotionServer, count: int) -> Iterator[list[socket.socket]]:
    """Send requests at once while the only worker is suspended, so that none is answered."""
    [worker] = server.workers()
    worker.suspend()
    with ExitStack() as stack:
        connections = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(count)]
        for connection in connections:
            stack.enter_context(connection)
            connection.sendall(HEAD + f"Content-Length: {len(HEAVY)}\r\n\r\n".encode() + HEAVY)
        yield connections


def test_full_queue(tmp_path: Path, enrolled_model: Path) -> None:
    with emotion_server(tmp_path, "--model", enrolled_model, waiting=1, answer_seconds=60.0) as server:
        [worker] = server.workers()
        with heavy_requests(server, 6) as connections:
            wait_until(lambda: len(select.select(connections, [], [], 0)[0]) == 4)
            worker.resume()
            answers = [connection.recv(65536) for connection in connections]

    assert sorted(answer.split()[1] for answer in answers) == [b"200"] * 2 + [b"503"] * 4
    assert all(b"retry-after: 1\r\n" in answer for answer in answers if b" 503 " in answer)


def test_graceful_stop(tmp_path: Path, enrolled_model: Path) -> None:
    with emotion_server(tmp_path, "--model", enrolled_model, answer_seconds=60.0) as server:
        [worker] = server.workers()
        with heavy_requests(server, 3) as connections:
            wait_until(lambda: b"speech_emotion_working 3.0" in server.ask(path="/metrics", method="GET")[1])
            for process in (psutil.Process(server.process.pid), worker):
                process.terminate()  # as a service manager does, which signals the whole group
            worker.resume()
            answers = [connection.recv(65536) for connection in connections]

        assert [answer.split()[1] for answer in answers] == [b"200"] * 3
        assert server.process.wait(20) == 0
        assert psutil.wait_procs([worker], timeout=10)[1] == []
        assert len(server.events("stopped")) == 1


def signal_at_work(server: EmotionServer, number: int) -> tuple[int, str]:
    """Signal the worker while it decodes; return status and message of the response."""
    [worker] = server.workers()
    worker.nice(5)  # this loop runs before the work is done
    with ThreadPoolExecutor() as threads:
        asked = None
        while asked is None or asked.done():  # done: the worker was faster than this loop
            before, asked = worker.cpu_times().user, threads.submit(server.ask, HEAVY)
            while worker.cpu_times().user < before + 0.03 and not asked.done():
                time.sleep(0.001)
        worker.send_signal(number)
        status, body, _ = asked.result(60)
    assert psutil.wait_procs([worker], timeout=10)[1] == []
    return status, json.loads(body)["message"]


def test_killed_workers(tmp_path: Path, enrolled_model: Path) -> None:
    with emotion_server(tmp_path, "--model", enrolled_model) as server:
        [worker] = server.workers()
        worker.kill()  # idle
        assert server.predict(WAV)
        assert [line["level"] for line in server.events("worker ended")] == ["warning"]

        expected = (400, "the recordings cannot be decoded: they are damaged")
        assert signal_at_work(server, signal.SIGSEGV) == expected
        assert server.predict(WAV)


def test_hanging_worker(tmp_path: Path, enrolled_model: Path) -> None:
    expected = (504, "the request took longer than 5 s; send fewer recordings")
    with emotion_server(tmp_path, "--model", enrolled_model, answer_seconds=5.0) as server:
        assert signal_at_work(server, signal.SIGSTOP) == expected
        wait_until(lambda: server.ask(records(WAV))[0] == 200)  # another has started

        [worker] = server.workers()
        worker.suspend()  # idle: it does not even take the request
        assert server.ask(HEAVY)[0] == 504
        wait_until(lambda: server.ask(records(WAV))[0] == 200)
        assert psutil.wait_procs([worker], timeout=10)[1] == []


def test_model_that_is_gone(tmp_path: Path, enrolled_model: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(enrolled_model, folder)
    with emotion_server(tmp_path / "server", "--model", folder) as server:
        shutil.move(folder, tmp_path / "away")
        [worker] = server.workers()
        worker.kill()

        assert server.ask(records(WAV))[0] == 503
        assert server.ask(path="/ping", method="GET")[0] == 503
        shutil.move(tmp_path / "away", folder)
        assert server.predict(WAV)
        assert server.ask(path="/ping", method="GET")[0] == 200


def test_closed_log(tmp_path: Path, enrolled_model: Path) -> None:
    command = [sys.executable, "-m", "speech_emotion", "serve", "--port", "0", "--model", enrolled_model]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        process.stdout.close()
        server = EmotionServer(url, process, tmp_path / "none")

        for _ in range(3):
            assert server.predict(WAV)

        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    "model", ["nowhere", "models:nobody", pytest.param("models:/nobody@champion", marks=pytest.mark.slow)]
)
def test_missing_model(tmp_path: Path, model: str) -> None:
    done = serve(tmp_path, "--port", "0", "--model", model)

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert model.removeprefix("models:/").partition("@")[0] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"], ids=["taken", "of another machine"])
def test_unusable_address(tmp_path: Path, enrolled_model: Path, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = serve(tmp_path, "--host", host, "--port", str(port), "--model", str(enrolled_model))

    assert done.returncode == 1
    assert f"error: Cannot listen on {host}:{port}" in done.stderr


def serve(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "speech_emotion", "serve", *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("labels", [(*LABELS, "bored"), LABELS[:2]])
def test_labels_must_match_the_network(tmp_path: Path, enrolled_model: Path, labels: tuple[str, ...]) -> None:
    folder = Path(shutil.copytree(enrolled_model, tmp_path / "package"))
    path = folder / "package.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": labels}))

    with pytest.raises(UserError, match=r"has 3 columns|package\.json requires 2"):
        Recognizer.load(folder)
