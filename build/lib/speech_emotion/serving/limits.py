"""Wrap an ASGI application with limits on heads, request ids, a log line and metrics for each request."""

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from speech_emotion.serving.schemas import refusal

HEAD_BYTES: Final = 16 * 2**10
"""Limit for the request line and all headers."""

_LINGER_SECONDS: Final = 2.0
"""How long the rest of a refused body is read and dropped: closing at once would lose the response."""

_REQUEST_ID: Final = re.compile(rb"[\w.-]{1,64}", re.ASCII)

Observe = Callable[["Exchange"], None]


class Exchange:
    """One request and its response.

    Attributes
    ----------
    id : str
        The client's `X-Request-Id`, or a new one.
    status : int
        499: the client has left before there was one.
    received : int
        Bytes of the body.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._names = [name for name, _ in headers]
        self._receive, self._send = receive, send
        # uvicorn drops the body of a response to HEAD
        self.scope = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        given = dict(headers).get(b"x-request-id", b"")
        self.id = (given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()).decode()
        self.method, self.path = str(scope["method"]), str(scope["path"])
        self.began, self.status, self.received = time.perf_counter(), 499, 0
        self._close = False
        length = dict(headers).get(b"content-length", b"0")
        # whether all of the body has been read
        self._complete = length == b"0" and b"transfer-encoding" not in self._names

    def problem(self) -> Response | None:
        """Return the response to a head that is refused."""
        size = sum(len(name) + len(value) + 4 for name, value in self.scope["headers"])
        size += len(self.scope["raw_path"]) + len(self.scope["query_string"])
        if size > HEAD_BYTES:
            status, message = 431, f"the head of the request is larger than {HEAD_BYTES // 1024} KiB"
        elif {b"content-length", b"transfer-encoding"} <= set(self._names):
            # two lengths for one body are how requests are smuggled past a proxy (RFC 9112, 6.3)
            status, message = 400, "the request has both Content-Length and Transfer-Encoding"
        else:
            return None
        self._close = True
        return Response(refusal(message), status, media_type="application/json")

    async def receive(self) -> Message:
        """Receive a part of the body."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response; closes the connection if the request was not read to its end."""
        if message["type"] == "http.response.start":
            self.status, self._close = message["status"], self._close or not self._complete
            added = {b"x-content-type-options": b"nosniff", b"x-request-id": self.id.encode()}
            if self._close:
                added[b"connection"] = b"close"
            message = {**message, "headers": [*message["headers"], *added.items()]}
        elif not message.get("more_body", False) and not self._complete:
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while not self._complete and (await self.receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            pass


class Limits:
    """ASGI middleware; `observe` is called with every exchange at its end."""

    def __init__(self, app: ASGIApp, *, observe: Observe, failed: Callable[[Exchange, Exception], None]) -> None:
        self._app, self._observe, self._failed = app, observe, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send)
        try:
            await (exchange.problem() or self._app)(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:  # FastAPI has answered 500 and raises for the log
            self._failed(exchange, error)
        finally:
            self._observe(exchange)
