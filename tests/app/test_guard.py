"""Attack the page over HTTP."""

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from helpers import recordings
from helpers.emotion_page import EmotionPage, emotion_page

SECRET = "only for the owner"
JOIN = "/gradio_api/queue/join"
UPLOAD = "/gradio_api/upload"
HEX = "0" * 32


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmotionPage]:
    with emotion_page(tmp_path_factory.mktemp("page") / "home") as page:
        (page.folder / "secret.wav").write_text(SECRET)
        os.mkfifo(page.folder / "fifo")
        (page.uploads / "link").symlink_to(page.folder / "secret.wav")
        yield page
        assert httpx.get(f"{page.uri}/config").status_code == 200
        assert [one for one in page.files() if not one.is_symlink()] == []
    assert page.calls == ""
    assert "Traceback" not in page.said


@pytest.fixture
def client(served: EmotionPage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.uri, timeout=30) as client:
        yield client


def file(path: object) -> dict[str, Any]:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def call(*data: Any, **changes: Any) -> dict[str, Any]:
    return {"data": list(data), "fn_index": 0, "session_hash": "attack", **changes}


def events(client: httpx.Client, session: str) -> str:
    """Return all events of a session until its calls are done."""
    found = ""
    with client.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as stream:
        for line in stream.iter_lines():
            found += line
            if "close_stream" in line:
                break
    return found


def functions(client: httpx.Client) -> list[int]:
    """Return the numbers of the page's functions that take a file."""
    return [one["id"] for one in client.get("/config").json()["dependencies"] if len(one["inputs"]) == 1]


PATHS = {
    "file": "{home}/secret.wav",
    "relative file": "secret.wav",
    "FIFO": "{home}/fifo",
    "device": "/dev/zero",
    "terminal": "/dev/tty",
    "password file": "/etc/passwd",
    "environment": "/proc/self/environ",
    "memory": "/proc/self/mem",
    "open file": "/proc/self/fd/0",
    "uploads": "{uploads}",
    "lock": "{uploads}/lock",
    "link in uploads": "{uploads}/link",
    "way out of uploads": "{uploads}/../../secret.wav",
    "way round": "{uploads}/../{uploads_name}/" + HEX + ".wav",
    "name like an upload": "{home}/" + HEX + ".wav",
    "folder like an upload": "{uploads}/" + HEX + ".wav/../link",
    "empty": "",
    "here": ".",
    "home": "~/.ssh/id_rsa",
    "NUL": "{uploads}/" + HEX + ".wav\0",
    "line end": "{uploads}/" + HEX + ".wav\n",
    "long": "a" * 5000,
    "URL": "http://127.0.0.1:1/a.wav",
    "URL in capitals": "HTTPS://example.org/a.wav",
    "file URL": "file:///etc/passwd",
    "data URL": "data:audio/wav;base64,AAAA",
    "Gradio URL": "/gradio_api/file=/etc/passwd",
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("several", [False, True], ids=["one", "list"])
def test_refuses_foreign_paths(served: EmotionPage, client: httpx.Client, name: str, several: bool) -> None:
    path = PATHS[name].format(home=served.folder, uploads=served.uploads, uploads_name=served.uploads.name)
    for function in functions(client):
        answer = client.post(JOIN, json=call([file(path)] if several else file(path), fn_index=function))
        assert answer.status_code == (400 if several else 403)
    assert SECRET not in "".join(one.read_text(errors="replace") for one in served.files() if not one.is_symlink())


CALLS: dict[str, Any] = {
    "nothing": b"",
    "text": b"not JSON",
    "list": [],
    "number": 1,
    "no data": {"fn_index": 0, "session_hash": "attack"},
    "no session": {"data": [None], "fn_index": 0},
    "odd session": call(None, session_hash="../../etc"),
    "long session": call(None, session_hash="a" * 1000),
    "path as text": call("/etc/passwd"),
    "file without path": call({"meta": {"_type": "gradio.FileData"}}),
    "path as list": call({"path": ["/etc/passwd"]}),
    "other kind of file": call({"path": "a", "meta": {"_type": "gradio.ImageData"}}),
    "two files": call(None, file("/etc/passwd")),
    "no file": call(),
    "unknown function": call(None, fn_index=999_999),
    "function of the browser": call(fn_index=6),
    "negative function": call(None, fn_index=-1),
    "function as text": call(None, fn_index="predict"),
    "deep": b"[" * 8000,
    "deep objects": b'{"data":' * 1500,
    "long": call("a" * 100_000),
    "two paths": b'{"data":[{"path":"x","path":"/etc/passwd"}],"fn_index":0,"session_hash":"a"}',
    "UTF-16": '{"data":[{"path":"/etc/passwd"}],"fn_index":0,"session_hash":"a"}'.encode("utf-16"),
}


@pytest.mark.parametrize("name", CALLS)
def test_refuses_odd_calls(client: httpx.Client, name: str) -> None:
    body = CALLS[name]

    answer = client.post(JOIN, content=body) if isinstance(body, bytes) else client.post(JOIN, json=body)

    assert answer.status_code in {400, 403, 413}


ROUTES = [
    *("GET /gradio_api/file=/etc/passwd", "GET /gradio_api/file={home}/secret.wav", "HEAD /gradio_api/file=/dev/zero"),
    *("GET /gradio_api/file={uploads}/link", "GET /gradio_api/file={uploads}/lock", "GET /gradio_api/file={home}/fifo"),
    *("GET /gradio_api/file=http://127.0.0.1:1/a", "GET /gradio_api/file=HTTPS://example.org", "GET /file=/etc/passwd"),
    *("GET /gradio_api/file=%2fetc%2fpasswd", "GET /gradio_api/file/etc/passwd", "GET //gradio_api/file=/etc/passwd"),
    *("GET /gradio_api/file={uploads}/%2e%2e/%2e%2e/secret.wav", "GET /gradio_api/proxy=http://127.0.0.1:1/"),
    *("HEAD /gradio_api/proxy=http://127.0.0.1:1/", "GET /proxy=http://127.0.0.1:1/", "GET /gradio_api/deep_link"),
    *("GET /gradio_api/deep_link?session_hash=a", "GET /gradio_api/runs", "GET /gradio_api/run-history/records"),
    *("POST /gradio_api/run/uploaded", "POST /gradio_api/api/uploaded", "POST /gradio_api/call/uploaded"),
    *("POST /gradio_api/call/v2/uploaded", "POST /gradio_api/component_server", "POST /gradio_api/stream/a"),
    *("GET /gradio_api/stream/a/b/1/playlist.m3u8", "GET /gradio_api/custom_component/a/b/c/d", "GET /monitoring"),
    *(
        "GET /gradio_api/info",
        "GET /gradio_api/openapi.json",
        "GET /openapi.json",
        "GET /docs",
        "GET /gradio_api/token",
    ),
    *("POST /gradio_api/vibe-edit", "GET /gradio_api/vibe-code", "POST /gradio_api/process_recording", "POST /login"),
    *("GET /gradio_api/dev/reload", "GET /gradio_api/profiling/traces", "POST /gradio_api/cancel", "PUT /config"),
    *("GET /assets/../../routes.py", "GET /static/%2e%2e/%2e%2e/routes.py", "GET /assets//etc/passwd"),
    *("DELETE /gradio_api/upload", "GET /gradio_api/upload", "OPTIONS /gradio_api/queue/join", "TRACE /"),
]


@pytest.mark.parametrize("route", ROUTES)
def test_closes_unused_routes(served: EmotionPage, route: str) -> None:
    method, path = route.format(home=served.folder, uploads=served.uploads).split(maxsplit=1)

    # not by httpx, which tidies paths
    answer = raw(served, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert answer.split(maxsplit=2)[1] in {"404", "405"}
    assert SECRET not in answer


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example", "localhost.", "", "[::1"],
)
def test_refuses_foreign_hosts(client: httpx.Client, host: str) -> None:
    assert client.get("/config", headers={"Host": host}).status_code in {400, 403}


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "file://", "http://[", ""]
)
def test_refuses_foreign_origins(client: httpx.Client, origin: str) -> None:
    for method, path in (("GET", "/config"), ("POST", JOIN), ("POST", UPLOAD)):
        assert client.request(method, path, headers={"Origin": origin}).status_code == 403


FORM = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\nvoice\r\n--x--\r\n'
HEAD = f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n".encode()
UPLOADS: dict[str, bytes] = {
    "no length": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length and chunks": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nvoice",
    "negative length": HEAD + b"Content-Length: -5\r\n\r\nvoice",
    "endless length": HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nvoice",
    "huge": HEAD + b"Content-Length: 99999999999\r\n\r\nvoice",
    "no form": HEAD.replace(b"multipart/form-data", b"text/plain") + b"Content-Length: 5\r\n\r\nvoice",
    "other form": HEAD.replace(b"multipart/form-data", b"application/x-www-form-urlencoded")
    + b"Content-Length: 3\r\n\r\na=b",
    "no boundary": HEAD.replace(b"; boundary=x", b"") + b"Content-Length: 5\r\n\r\nvoice",
    "broken form": HEAD + b"Content-Length: 5\r\n\r\nvoice",
    "field": HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(FORM) - 18, FORM.replace(b'; filename="a.wav"', b"")),
    "two files": HEAD + b"Content-Length: %d\r\n\r\n%s" % (2 * len(FORM) - 7, FORM[:-7] + b"\r\n" + FORM[:-2]),
    "large head": HEAD + b"X: " + b"a" * 200_000 + b"\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", UPLOADS)
def test_refuses_odd_uploads(served: EmotionPage, name: str) -> None:
    answer = raw(served, UPLOADS[name])

    assert re.match(r"HTTP/1\.1 4\d\d |$", answer)
    assert served.files() == [served.uploads / "link"]


def raw(page: EmotionPage, request: bytes) -> str:
    """Send bytes, and return all that comes back until the page closes the connection."""
    address = urlsplit(page.uri)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        answer = b""
        with suppress(OSError):  # the page closes the connection before it has read all of a large request
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while block := connection.recv(65536):
                answer += block
    return answer.decode(errors="replace")


@pytest.mark.parametrize("name", ["a.wav", "../../secret.wav", "a.html", "a.json", "/etc/passwd", "a.wav\n.sh"])
def test_answers_uploads(served: EmotionPage, client: httpx.Client, name: str) -> None:
    [path] = client.post(
        UPLOAD, files={"files": (name, recordings.encoded(recordings.tone()))}, headers={"Origin": served.uri}
    ).json()
    assert os.path.dirname(path) == str(served.uploads)
    assert path.endswith((".wav", ".audio"))

    joined = client.post(JOIN, json=call(file(path) | {"orig_name": name}, fn_index=functions(client)[-1]))

    assert joined.status_code == 200
    shown = events(client, "attack")
    assert '"success":true' in shown
    assert "se-label" in shown


def test_bounds_the_queue(served: EmotionPage, client: httpx.Client) -> None:
    example = next(one["id"] for one in client.get("/config").json()["dependencies"] if not one["inputs"])

    statuses = [client.post(JOIN, json=call(fn_index=example, session_hash="flood")).status_code for _ in range(100)]

    assert set(statuses) == {200, 503}
    assert events(client, "flood").count('"process_completed"') == statuses.count(200)


def test_bounds_connections(served: EmotionPage, client: httpx.Client) -> None:
    address = urlsplit(served.uri)
    with ExitStack() as opened:
        for _ in range(100):
            opened.enter_context(socket.create_connection((address.hostname, address.port)))
        assert httpx.get(f"{served.uri}/config").status_code == 503

    end = time.monotonic() + 60
    while httpx.get(f"{served.uri}/config").status_code != 200:  # until the page has seen the connections close
        assert time.monotonic() < end
