"""Takes HTTP requests; gives MLflow's scoring contract, with every limit held before a byte is parsed.

An ASGI application. Bodies are read, and handed to a worker as they are: this process parses nothing that a client has
made.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

from speech_emotion.config.serving import ServeSettings
from speech_emotion.serving import page
from speech_emotion.serving.log_writer import Scribe
from speech_emotion.serving.metrics import CONTENT_TYPE, Log, Metrics
from speech_emotion.serving.pool import BusyError, CrashError, Pool, SlowError
from speech_emotion.serving.wire import refusal

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

LINGER_SECONDS: Final = 2.0
"""That a refused body is taken in and dropped: who closes at once has the answer lost with the connection."""

_BODIES: Final = 4
"""Bodies of the largest size that are held at once; many small ones are the same to memory."""

_JSON: Final = "application/json"
_REQUEST_ID: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)


@dataclass
class Response:
    """What a client is told."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: dict[str, str] = field(default_factory=dict)
    recordings: int = 0


class _RefusedError(Exception):
    """A request that is answered with a refusal."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        code = {503: "TEMPORARILY_UNAVAILABLE", 504: "DEADLINE_EXCEEDED", 404: "ENDPOINT_NOT_FOUND"}
        body = refusal(message, code.get(status, "INVALID_PARAMETER_VALUE"))
        self.response = Response(
            status, body, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


class _GoneError(Exception):
    """The client has left."""


class App:
    """The server's application.

    Parameters
    ----------
    pool : Pool
        Answers.
    settings : ServeSettings
    metrics : Metrics
    log : Log
    crowded : callable
        Tells whether there are more connections than recordings are taken from.
    scribe : Scribe or None
        Writes the log of predictions, where one is kept.
    """

    def __init__(
        self,
        pool: Pool,
        settings: ServeSettings,
        metrics: Metrics,
        log: Log,
        *,
        crowded: Callable[[], bool],
        scribe: Scribe | None = None,
    ) -> None:
        self._pool, self._settings, self._metrics, self._log = pool, settings, metrics, log
        self._crowded, self._scribe = crowded, scribe
        self._largest = int(settings.body_mb * 2**20)
        self._held = 0
        self._version = metadata.version("speech-emotion")
        # path → method → what answers it
        get = {
            "/ping": self._ping,
            "/health": self._ping,
            "/version": self._tell_version,
            "/metrics": self._tell_metrics,
            "/openapi.json": self._tell_openapi,
            "/docs": self._tell_docs,
        }
        self._routes: Mapping[str, Mapping[str, Callable[[_Request], Awaitable[Response]]]] = {
            "/invocations": {"POST": self._invocations},
            **{path: {"GET": answer, "HEAD": answer} for path, answer in get.items()},
        }

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request, began = _Request(scope, receive), time.perf_counter()
        try:
            response = await self._answer(request)
        except _GoneError:
            self._note(request, 499, 0, began)
            return
        except Exception as error:  # a mistake of ours: the log has it, the client only that there was one
            self._log("error", level="error", id=request.id, reason=f"{type(error).__name__}: {error}")
            response = Response(500, refusal("this is a mistake of the server; its log has it", "INTERNAL_ERROR"))
        self._note(request, response.status, response.recordings, began)
        try:
            async with asyncio.timeout(self._settings.receive_seconds + LINGER_SECONDS):
                await _deliver(response, request, send)
        except TimeoutError:
            # returning before the answer is complete closes the connection
            self._log("an answer was not taken", level="warning", id=request.id)

    async def _answer(self, request: "_Request") -> Response:
        try:
            methods = self._routes.get(request.path)
            if methods is None:
                raise _RefusedError(404, f"there is nothing here; known: {', '.join(self._routes)}")
            if request.method not in methods:
                allowed = ", ".join(methods)
                raise _RefusedError(405, f"this address takes {allowed}", Allow=allowed)
            return await methods[request.method](request)
        except _RefusedError as refused:
            return refused.response

    async def _invocations(self, request: "_Request") -> Response:
        _check_type(request)
        if (request.length or 0) > self._largest:
            raise self._too_large()
        if self._pool.full or self._crowded():
            raise self._busy()
        try:
            body = await self._read(request)
            try:
                reply = await self._pool.answer(body)
            finally:
                self._held -= len(body)
        except BusyError:
            raise self._busy() from None
        except SlowError:
            limit = self._settings.answer_seconds
            raise _RefusedError(
                504, f"the answer took longer than {limit:g} s; send fewer recordings at once"
            ) from None
        except CrashError:
            raise _RefusedError(400, "the recordings cannot be decoded: they are damaged") from None
        self._metrics.recordings.inc(reply.recordings)
        if self._scribe is not None and reply.entries:
            self._scribe.write(reply.entries)
        return Response(reply.status, reply.body, recordings=reply.recordings)

    async def _read(self, request: "_Request") -> bytearray:
        """Return the body, counted among those that are held; too long a wait or a body is a refusal."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.receive_seconds):
                async for part in request.parts():
                    if len(body) + len(part) > self._largest:
                        raise self._too_large()
                    if self._held + len(part) > _BODIES * self._largest:
                        raise self._busy()
                    body += part
                    self._held += len(part)
        except BaseException as error:
            self._held -= len(body)
            if isinstance(error, TimeoutError):
                limit = self._settings.receive_seconds
                raise _RefusedError(408, f"the request did not arrive within {limit:g} s") from None
            raise
        return body

    def _too_large(self) -> "_RefusedError":
        return _RefusedError(413, f"the request is larger than {self._settings.body_mb:g} MiB")

    def _busy(self) -> "_RefusedError":
        message = "as much is being answered as this server takes at once; try again"
        return _RefusedError(503, message, Retry_After=str(self._pool.patience))

    async def _ping(self, request: "_Request") -> Response:
        if not self._pool.able:
            raise _RefusedError(503, "the model cannot be loaded any more; the log says why", Retry_After="10")
        return Response(200, b"\n")

    async def _tell_version(self, request: "_Request") -> Response:
        return Response(200, self._version.encode(), "text/plain; charset=utf-8")

    async def _tell_metrics(self, request: "_Request") -> Response:
        return Response(200, self._metrics.text(), CONTENT_TYPE)

    async def _tell_openapi(self, request: "_Request") -> Response:
        return Response(200, json.dumps(self._openapi()).encode())

    async def _tell_docs(self, request: "_Request") -> Response:
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(200, page.html(self._openapi()).encode(), "text/html; charset=utf-8", headers)

    def _openapi(self) -> dict[str, Any]:
        return page.openapi(self._version, self._pool.labels, self._settings)

    def _note(self, request: "_Request", status: int, recordings: int, began: float) -> None:
        seconds = time.perf_counter() - began
        # a metric for each address that somebody tries would fill Prometheus
        path = request.path if request.path in self._routes else "other"
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        self._log.line(
            "request",
            id=request.id,
            method=request.method,
            path=path,
            status=status,
            seconds=round(seconds, 4),
            bytes=request.received,
            recordings=recordings,
            model_version=self._pool.model.version or self._pool.model.digest[:12],
        )


class _Request:
    """What is known of a request before its body is read."""

    def __init__(self, scope: Any, receive: Receive) -> None:
        self._receive = receive
        self.method, self.path = str(scope["method"]), str(scope["path"])
        self.headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            # given twice, it has both values, as HTTP has it
            before = self.headers.get(name.decode("latin-1"))
            after = value.decode("latin-1")
            self.headers[name.decode("latin-1")] = after if before is None else f"{before}, {after}"
        length = self.headers.get("content-length", "")
        self.length = int(length) if length.isdecimal() else None
        self.received = 0
        # whether all of the body has arrived
        self.whole = "transfer-encoding" not in self.headers and not self.length
        given = self.headers.get("x-request-id", "")
        self.id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

    async def parts(self) -> Any:
        """Yield the body as it arrives."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            part = message.get("body", b"")
            self.received += len(part)
            self.whole = not message.get("more_body", False)
            yield part
            if self.whole:
                return


def _check_type(request: _Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _RefusedError(415, "the body is compressed; send it as it is")
    media, *options = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
    if media != _JSON:
        raise _RefusedError(415, f"the Content-Type {'is missing' if not media else 'is another'}; expected {_JSON}")
    if any(option not in {"", "charset=utf-8", 'charset="utf-8"'} for option in options):
        raise _RefusedError(415, "the Content-Type has parameters; only charset=utf-8 is taken")


async def _deliver(response: Response, request: _Request, send: Send) -> None:
    """Send an answer; where a body was not read to its end, drop the rest for a moment and close the connection."""
    headers = {
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": request.id,
        **response.headers,
        **({} if request.whole else {"Connection": "close"}),
    }
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": encoded})
    await send({"type": "http.response.body", "body": response.body, "more_body": not request.whole})
    if request.whole:
        return
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            async for _ in request.parts():
                pass
    except (TimeoutError, _GoneError):
        pass
    await send({"type": "http.response.body", "body": b""})
