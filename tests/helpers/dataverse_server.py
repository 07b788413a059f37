"""A local server that speaks the Dataverse API and misbehaves as a test says."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PERSISTENT_ID = "doi:10.5683/SP2/E8H2MF"
LIST = "/api/datasets/:persistentId/versions/:latest/files"
DATA = "/api/access/datafile/"


@dataclass(frozen=True)
class Act:
    """How one request is answered; by default in the ordinary way."""

    status: int = 0  # other than 0: an error
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None  # bytes of the body after which the connection is closed
    garbage: bool = False  # other bytes of the same length
    silence: float = 0.0  # seconds before the answer begins


@dataclass
class Request:
    """What was requested, when, and what was answered."""

    path: str
    range: str
    time: float
    status: int = 0
    sent: int = 0


@dataclass
class DataverseServer:
    """A dataset, and how it is served. Where a mapping has names, "list" is the list of files."""

    files: dict[str, bytes]  # content by name; ids count from 100
    plan: dict[str, list[Act]] = field(default_factory=dict)  # the first answers
    always: dict[str, Act] = field(default_factory=dict)  # all further answers
    ranges: bool = True
    pause: float = 0.0  # seconds between pieces
    piece: int = 1 << 16  # bytes
    labels: dict[str, dict[str, object]] = field(default_factory=dict)  # what the list says instead of the ordinary
    documents: dict[str, bytes] = field(default_factory=dict)  # files outside the dataset, by path
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def listing(self) -> bytes:
        entries = []
        for number, (name, content) in enumerate(self.files.items()):
            md5 = hashlib.md5(content).hexdigest()
            directory, _, label = name.rpartition("/")
            file = {"id": 100 + number, "filename": label, "filesize": len(content), "contentType": "audio/x-wav"}
            file |= {"md5": md5, "checksum": {"type": "MD5", "value": md5}} | self.labels.get(name, {})
            entries.append(
                {"label": label, "restricted": False, "dataFile": file}
                | ({"directoryLabel": directory} if directory else {})
            )
        return json.dumps({"status": "OK", "totalCount": len(entries), "data": entries}).encode()

    def act(self, name: str) -> Act:
        with self.lock:
            acts = self.plan.get(name, [])
            return acts.pop(0) if acts else self.always.get(name, Act())

    def asked(self, name: str) -> list[Request]:
        """The requests for a file, in order."""
        path = LIST if name == "list" else f"{DATA}{100 + list(self.files).index(name)}"
        return [request for request in self.requests if request.path == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    dataset: DataverseServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        request = Request(url.path, self.headers.get("Range", ""), time.monotonic())
        with self.dataset.lock:
            self.dataset.requests.append(request)
        with suppress(BrokenPipeError, ConnectionResetError):
            self._answer(request, parse_qs(url.query))

    def _answer(self, request: Request, query: Mapping[str, list[str]]) -> None:
        if request.path == LIST and query.get("persistentId") == [PERSISTENT_ID]:
            name, body = "list", self.dataset.listing()
        elif request.path.startswith(DATA) and int(request.path.removeprefix(DATA)) - 100 < len(self.dataset.files):
            name, body = list(self.dataset.files.items())[int(request.path.removeprefix(DATA)) - 100]
            if self.dataset.labels.get(name, {}).get("tabularData") and query.get("format") != ["original"]:
                body = b"a table that the server has made"
        else:
            name, body = request.path, self.dataset.documents.get(request.path)
        act = Act(status=404) if body is None else self.dataset.act(name)
        time.sleep(act.silence)
        if act.status:
            said = json.dumps({"status": "ERROR", "message": "said by the server"}).encode()
            self._send(request, act.status, said, act)
        else:
            self._send_content(request, body, act)

    def _send_content(self, request: Request, body: bytes, act: Act) -> None:
        if act.garbage:
            body = bytes(byte ^ 0xFF for byte in body)
        if not (request.range and self.dataset.ranges):
            self._send(request, 200, body, act)
            return
        start = int(request.range.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            self._send(request, 416, b"", act)
            return
        content_range = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        self._send(request, 206, body[start:], Act(headers=content_range | dict(act.headers), cut=act.cut))

    def _send(self, request: Request, status: int, body: bytes, act: Act) -> None:
        request.status = status
        self.send_response(status)
        for name, value in act.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body, whole = body[: act.cut], act.cut is None or act.cut >= len(body)
        for start in range(0, len(body), self.dataset.piece):
            request.sent += len(body[start : start + self.dataset.piece])  # before the client can have read it
            self.wfile.write(body[start : start + self.dataset.piece])
            self.wfile.flush()
            time.sleep(self.dataset.pause)
        self.close_connection = not whole

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(dataset: DataverseServer) -> Iterator[DataverseServer]:
    """Serve a dataset on a free port; its `url` is set."""
    handler = type("Handler", (_Handler,), {"dataset": dataset})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    dataset.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield dataset
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
