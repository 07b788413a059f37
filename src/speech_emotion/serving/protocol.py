"""Open the socket of uvicorn, and extend its HTTP protocol with the limits that ASGI middleware cannot give."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from speech_emotion.core.errors import UserError
from speech_emotion.serving.schemas import refusal

CONNECTIONS: Final = 1000
"""Further ones are refused."""


def protocol(seconds: float, note: Callable[..., None]) -> type[H11Protocol]:
    """Return a protocol that closes connections whose head arrives, or whose response is read, too slowly."""

    class Protocol(H11Protocol):
        _head: asyncio.TimerHandle
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # with no buffer, pause_writing is called as soon as the client does not read
            transport.set_write_buffer_limits(high=0)
            self._head = self.loop.call_later(seconds, self._head_late)
            if len(self.connections) > CONNECTIONS:
                busy = "503 Service Unavailable\r\nRetry-After: 1"
                self._refuse(busy, "too many connections; retry later", "TEMPORARILY_UNAVAILABLE")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._head.cancel()
            elif self._head.cancelled() and self.conn.trailing_data[0]:
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
            if self._unread is not None:
                self._unread.cancel()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head.cancel()
            if self._unread is not None:
                self._unread.cancel()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            # a response that has begun cannot be replaced
            if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
                self._refuse("400 Bad Request", "this is not a valid HTTP request")
            self.transport.close()

        def _head_late(self) -> None:
            self._refuse("408 Request Timeout", f"the head of the request did not arrive within {seconds:g} s")

        def _refuse(self, status: str, message: str, code: str = "INVALID_PARAMETER_VALUE") -> None:
            if not self.transport.is_closing():
                note("connection refused", level="warning", reason=message)
                body = refusal(message, code)
                head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                self.transport.write(f"{head}Connection: close\r\n\r\n".encode() + body)
                self.transport.close()

        def _response_unread(self) -> None:
            note("response not read", level="warning")
            self.transport.abort()

    return Protocol


def bound(config: uvicorn.Config) -> socket.socket:
    """Return a listening socket; raises UserError if the address cannot be used."""
    try:
        listener = config.bind_socket()
        listener.listen(config.backlog)
        return listener
    except (SystemExit, OSError):  # uvicorn ends the process
        raise UserError(
            f"Cannot listen on {config.host}:{config.port}. Choose another --port, "
            "or an address of this machine with --host."
        ) from None


def url(listener: socket.socket) -> str:
    """Return the URL of a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
