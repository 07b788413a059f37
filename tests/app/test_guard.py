"""Attack the page over HTTP."""

import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from helpers import recordings
from helpers.emotion_page import EmotionPage, emotion_page
from helpers.emotion_server import wait_until
from helpers.tiny_package import ENROLLED, make_package
from speech_emotion.inference.response import LONGEST_BYTES

pytestmark = pytest.mark.slow

SECRET = "only for the owner"
JOIN = "/gradio_api/queue/join"
UPLOAD = "/gradio_api/upload"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmotionPage]:
    package = make_package(tmp_path_factory.mktemp("model") / "package", enrolled=ENROLLED)
    with emotion_page(tmp_path_factory.mktemp("page") / "home", "--model", package.folder) as page:
        (page.folder / "secret.wav").write_text(SECRET)
        os.mkfifo(page.folder / "fifo")
        (page.uploads / "link").symlink_to(page.folder / "secret.wav")
        yield page
        assert status(page) == 200
        assert [one for one in page.files() if not one.is_symlink()] == []
    assert page.calls == ""
    assert "Traceback" not in page.said


@pytest.fixture(scope="module", autouse=True)
def baseline(served: EmotionPage) -> int:
    """The memory after one normal upload, before the attacks."""
    with httpx.Client(base_url=served.uri, timeout=30) as client:
        assert "se-label" in analyse(client, upload(client, recordings.encoded(recordings.tone())))
    return served.memory()


@pytest.fixture
def client(served: EmotionPage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.uri, timeout=30) as client:
        yield client


def status(page: EmotionPage) -> int:
    """Return the status of a new connection."""
    return httpx.get(f"{page.uri}/config", timeout=30).status_code


def file(path: object) -> dict[str, Any]:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def call(*data: Any, **changes: Any) -> dict[str, Any]:
    return {"data": list(data), "fn_index": 0, "session_hash": "attack", **changes}


def join(client: httpx.Client, body: Any) -> httpx.Response:
    return client.post(JOIN, content=body) if isinstance(body, bytes) else client.post(JOIN, json=body)


def events(client: httpx.Client, session: str) -> str:
    """Return all events of a session until its calls are done."""
    found = ""
    with client.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as stream:
        for line in stream.iter_lines():
            found += line
            if "close_stream" in line:
                break
    return found


def upload(client: httpx.Client, content: bytes, name: str = "a.wav") -> str:
    """Return the path of an upload; empty if it was refused because of the load."""
    try:
        answer = client.post(UPLOAD, files={"files": (name, content)})
    except httpx.TransportError:  # refused while it was being sent
        return ""
    assert answer.status_code in {200, 503}
    return str(answer.json()[0]) if answer.status_code == 200 else ""


def analyse(client: httpx.Client, path: str, name: str = "a.wav") -> str:
    """Return the events of a prediction."""
    *_, number = (number for number, inputs in functions(client).items() if inputs[1:] == ["state"])
    body = call(file(path) | {"orig_name": name}, None, fn_index=number)
    assert join(client, body).status_code == 200
    return events(client, "attack")


def functions(client: httpx.Client) -> dict[int, list[str]]:
    """Return the kinds of the inputs of the page's functions that have any."""
    config = client.get("/config").json()
    kinds = {one["id"]: one["type"] for one in config["components"]}
    return {one["id"]: [kinds[part] for part in one["inputs"]] for one in config["dependencies"] if one["inputs"]}


NAME = "0" * 32 + ".wav"
PATHS = [
    *("{home}/secret.wav", "secret.wav", "{home}/fifo", "{home}/" + NAME, "", ".", "~/.ssh/id_rsa", "a" * 5000),
    *("/dev/zero", "/dev/tty", "/etc/passwd", "/proc/self/environ", "/proc/self/mem", "/proc/self/fd/0"),
    *("{uploads}", "{uploads}/lock", "{uploads}/link", "{uploads}/../../secret.wav", "{uploads}/" + NAME + "/../link"),
    *("{uploads}/../{uploads_name}/" + NAME, "{uploads}/" + NAME + "\0", "{uploads}/" + NAME + "\n"),
    *("http://127.0.0.1:1/a.wav", "HTTPS://example.org/a.wav", "file:///etc/passwd", "data:audio/wav;base64,AAAA"),
    "/gradio_api/file=/etc/passwd",
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_refuses_foreign_paths(served: EmotionPage, client: httpx.Client, path: str) -> None:
    path = path.format(home=served.folder, uploads=served.uploads, uploads_name=served.uploads.name)
    for function, inputs in functions(client).items():
        assert client.post(JOIN, json=call(*[file(path)] * len(inputs), fn_index=function)).status_code == 403
        assert client.post(JOIN, json=call([file(path)], fn_index=function)).status_code == 400
    assert SECRET not in "".join(one.read_text(errors="replace") for one in served.files() if not one.is_symlink())


CALLS: list[Any] = [
    *(b"", b"not JSON", b"[" * 8000, b'{"data":' * 1500, [], 1),
    {"fn_index": 0, "session_hash": "attack"},
    {"data": [None], "fn_index": 0},
    call(None, session_hash="../../etc"),
    call(None, session_hash="a" * 1000),
    call("/etc/passwd"),
    call({"meta": {"_type": "gradio.FileData"}}),
    call({"path": ["/etc/passwd"]}),
    call({"path": "a", "meta": {"_type": "gradio.ImageData"}}),
    call(None, file("/etc/passwd")),
    call(),
    call(None, None, None),
    call(None, "profile"),
    *(call(None, fn_index=number) for number in (999_999, -1, "predict")),
    call(fn_index=6),  # a function of the browser
    call("a" * 100_000),
    b'{"data":[{"path":"x","path":"/etc/passwd"}],"fn_index":0,"session_hash":"a"}',
    '{"data":[{"path":"/etc/passwd"}],"fn_index":0,"session_hash":"a"}'.encode("utf-16"),
]


@pytest.mark.parametrize("body", CALLS, ids=range(len(CALLS)))
def test_refuses_odd_calls(client: httpx.Client, body: Any) -> None:
    assert join(client, body).status_code in {400, 403, 413}


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
    *("GET /gradio_api/info", "GET /gradio_api/openapi.json", "GET /openapi.json", "GET /docs"),
    *("POST /gradio_api/vibe-edit", "GET /gradio_api/vibe-code", "POST /gradio_api/process_recording", "POST /login"),
    *("GET /gradio_api/dev/reload", "GET /gradio_api/profiling/traces", "POST /gradio_api/cancel", "PUT /config"),
    *("GET /assets/../../routes.py", "GET /static/%2e%2e/%2e%2e/routes.py", "GET /assets//etc/passwd"),
    *("DELETE /gradio_api/upload", "GET /gradio_api/upload", "OPTIONS /gradio_api/queue/join", "TRACE /"),
    "GET /gradio_api/token",
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
UPLOADS = [
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nvoice",
    HEAD + b"Content-Length: -5\r\n\r\nvoice",
    HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nvoice",
    HEAD + b"Content-Length: 99999999999\r\n\r\nvoice",
    HEAD.replace(b"multipart/form-data", b"text/plain") + b"Content-Length: 5\r\n\r\nvoice",
    HEAD.replace(b"multipart/form-data", b"application/x-www-form-urlencoded") + b"Content-Length: 3\r\n\r\na=b",
    HEAD.replace(b"; boundary=x", b"") + b"Content-Length: 5\r\n\r\nvoice",
    HEAD + b"Content-Length: 5\r\n\r\nvoice",
    HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(FORM) - 18, FORM.replace(b'; filename="a.wav"', b"")),
    HEAD + b"Content-Length: %d\r\n\r\n%s" % (2 * len(FORM) - 7, FORM[:-7] + b"\r\n" + FORM[:-2]),
    HEAD + b"X: " + b"a" * 200_000 + b"\r\nContent-Length: 0\r\n\r\n",
]


@pytest.mark.parametrize("request_", UPLOADS, ids=range(len(UPLOADS)))
def test_refuses_odd_uploads(served: EmotionPage, request_: bytes) -> None:
    assert re.match(r"HTTP/1\.1 4\d\d |$", raw(served, request_))
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
    path = upload(client, recordings.encoded(recordings.tone()), name)
    assert os.path.dirname(path) == str(served.uploads)
    assert path.endswith((".wav", ".audio"))

    shown = analyse(client, path, name)

    assert '"success":true' in shown
    assert "se-label" in shown


def test_profile_belongs_to_one_session(client: httpx.Client) -> None:
    recording = recordings.encoded(recordings.tone(2.0))
    [predict] = (number for number, inputs in functions(client).items() if inputs == ["file", "state"])
    [enroll] = (number for number, inputs in functions(client).items() if inputs == ["file"])

    def shown(session: str, function: int) -> str:
        data = [file(upload(client, recording)) | {"orig_name": "a.wav"}, None][: 2 if function == predict else 1]
        assert join(client, call(*data, fn_index=function, session_hash=session)).status_code == 200
        return events(client, session)

    told = shown("anna", enroll)

    assert "taken into account (2.0 s)" in told
    assert "spec_digest" not in told
    assert "compared with your normal voice" in shown("anna", predict)
    assert "compared with" not in shown("ben", predict)


def test_bounds_the_queue(served: EmotionPage, client: httpx.Client) -> None:
    # the example of several sentences, which takes longest
    _, _, _, example, *_ = (number for number, inputs in functions(client).items() if inputs == ["state"])

    flood = [call(None, fn_index=example, session_hash="flood")] * 100
    with ThreadPoolExecutor(40) as senders:  # one after another, they may come no faster than they are answered
        statuses = [answer.status_code for answer in senders.map(partial(join, client), flood)]

    assert set(statuses) == {200, 503}
    assert events(client, "flood").count('"process_completed"') == statuses.count(200)


def test_bounds_connections(served: EmotionPage, client: httpx.Client) -> None:
    address = urlsplit(served.uri)
    with ExitStack() as opened:
        for _ in range(100):
            opened.enter_context(socket.create_connection((address.hostname, address.port)))
        assert status(served) == 503

    wait_until(lambda: status(served) == 200)  # the page has seen the connections close


def test_memory_under_attack(served: EmotionPage, baseline: int, client: httpx.Client) -> None:
    """Runs last on the shared page, whose other attacks count as well."""
    bad = [make() for make, _ in recordings.BAD.values()]
    for _ in range(3):
        for body in CALLS:
            join(client, body)
        for request in UPLOADS:
            raw(served, request)
        for content in bad:
            assert '"success":true' in analyse(client, upload(client, content))
        with ThreadPoolExecutor(8) as senders:
            paths = list(senders.map(lambda _: upload(client, bytes(LONGEST_BYTES)), range(8)))
        for path in filter(None, paths):
            assert "se-refusal" in analyse(client, path)

    assert served.memory("VmHWM") < 2 * baseline
