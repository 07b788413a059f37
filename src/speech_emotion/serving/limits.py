"""Wrap an ASGI application with limits on heads, request ids, and a report of each request."""

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from speech_emotion.serving.schemas import refusal

HEAD_BYTES: Final = 16 * 2**10
"""Limit for the request line and all headers."""

_LINGER_SECONDS: Final = 2.0
"""How long the rest of a refused body is read and dropped: closing at once would lose the response."""

_REQUEST_ID: Final = re.compile(rb"[\w.-]{1,64}", re.ASCII)


class Exchange:
    """One request and its response; `status` is 499 if the client has left before there was one."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        self._receive, self._send = receive, send
        # uvicorn drops the body of a response to HEAD
        self.scope = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        given = headers.get(b"x-request-id", b"")
        self.id = (given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()).decode()
        self.began, self.status = time.perf_counter(), 499
        self.refusal = _head_refusal(scope)
        # whether all of the body has been read
        self._complete = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers

    async def receive(self) -> Message:
        """Receive a part of the body."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response; closes the connection if the request was not read to its end."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [(b"x-request-id", self.id.encode())]
            if self.refusal or not self._complete:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": [*message["headers"], *headers]}
        elif not message.get("more_body", False) and not self._complete:
            await self._send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_SECONDS):
                    while not self._complete and (await self.receive())["type"] != "http.disconnect":
                        pass
            message = {"type": "http.response.body"}
        await self._send(message)


def limited(app: ASGIApp, *, report: Callable[[Exchange, Exception | None], None]) -> ASGIApp:
    """Return the application within limits; `report` is called at the end of every exchange."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        exchange, failure = Exchange(scope, receive, send), None
        try:
            await (exchange.refusal or app)(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:  # FastAPI has answered 500 and raises for the log
            failure = error
        finally:
            report(exchange, failure)

    return call


def _head_refusal(scope: Scope) -> Response | None:
    size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if size + len(scope["raw_path"]) + len(scope["query_string"]) > HEAD_BYTES:
        status, message = 431, f"the head of the request is larger than {HEAD_BYTES // 1024} KiB"
    elif {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
        # two lengths for one body are how requests are smuggled past a proxy (RFC 9112, 6.3)
        status, message = 400, "the request has both Content-Length and Transfer-Encoding"
    elif scope["http_version"] not in {"1.0", "1.1"}:
        status, message = 400, "this server speaks HTTP/1.1"
    else:
        return None
    return Response(refusal(message), status, media_type="application/json")
