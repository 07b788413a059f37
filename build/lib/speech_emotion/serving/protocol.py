"""Extend uvicorn's HTTP protocol with the timeouts that ASGI middleware cannot give."""

import asyncio
from collections.abc import Callable
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from speech_emotion.serving.schemas import refusal

CONNECTIONS: Final = 1000
"""While more are open, no recordings are accepted."""

_MOST_CONNECTIONS: Final = CONNECTIONS + 200
"""Further connections are closed at once: even a refusal takes memory."""


def protocol(seconds: float, note: Callable[..., None]) -> type[H11Protocol]:
    """Return a protocol that closes connections whose head arrives, or whose response is read, too slowly."""

    class Protocol(H11Protocol):
        _head: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # with no buffer, pause_writing is called as soon as the client does not read
            transport.set_write_buffer_limits(high=0)
            if len(self.connections) > _MOST_CONNECTIONS:
                note("too many connections", level="warning")
                transport.abort()
            else:
                self._head = self.loop.call_later(seconds, self._head_late)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                _cancel(self._head)
                self._head = None
            elif self._head is None and self.conn.trailing_data[0]:
                self._head = self.loop.call_later(seconds, self._head_late)

        def eof_received(self) -> bool:  # type: ignore[override]
            # a client that closed only its own side still reads
            waits = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
            if waits:
                self.cycle.keep_alive = False
            return waits

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self.loop.call_later(seconds, self._response_unread)

        def resume_writing(self) -> None:
            super().resume_writing()
            _cancel(self._unread)

        def connection_lost(self, exc: Exception | None) -> None:
            _cancel(self._head)
            _cancel(self._unread)
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            # a response that has begun cannot be replaced
            if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
                self.transport.write(_response("400 Bad Request", "this is not a valid HTTP request"))
            self.transport.close()

        def _head_late(self) -> None:
            if not self.transport.is_closing():
                note("request head timed out", level="warning")
                message = f"the head of the request did not arrive within {seconds:g} s"
                self.transport.write(_response("408 Request Timeout", message))
                self.transport.close()

        def _response_unread(self) -> None:
            note("response not read", level="warning")
            self.transport.abort()

    return Protocol


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _response(status: str, message: str) -> bytes:
    body = refusal(message)
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n".encode() + body
