"""Takes limits; gives uvicorn's HTTP protocol with them: who is slow to ask, or to take the answer, is let go."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from speech_emotion.serving.wire import refusal

CONNECTIONS: Final = 1000
"""Open at once; while there are more, no recordings are taken, and whoever asks is told so."""

_MOST_CONNECTIONS: Final = CONNECTIONS + 200
"""One more is closed at once: even a refusal needs its sender's memory."""


def protocol(seconds: float, note: Callable[..., None]) -> type[H11Protocol]:
    """Return the protocol.

    Parameters
    ----------
    seconds : float
        That the head of a request may take to arrive, and an answer to be taken.
    note : callable
        Is told what happens (`note(event, **details)`).
    """
    late = _response(408, f"the head of a request did not arrive within {seconds:g} s")
    invalid = _response(400, "this is not a valid HTTP request")

    class Protocol(H11Protocol):
        _late: asyncio.TimerHandle | None = None
        _stuck: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # a timer runs while anything is not taken, be it a byte
            transport.set_write_buffer_limits(high=0)
            if len(self.connections) > _MOST_CONNECTIONS:
                note("a connection too many", level="warning")
                transport.abort()
            else:
                self._expect()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._forget()
            elif self._late is None and self.conn.trailing_data[0]:
                self._expect()

        def eof_received(self) -> bool:  # type: ignore[override]
            # who has asked and then closed only its own side still reads
            answering = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
            if answering:
                self.cycle.keep_alive = False
            return answering

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stuck = self.loop.call_later(seconds, self._give_up)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._end_stuck()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            self._end_stuck()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            # nothing can be put into an answer that has begun
            if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
                self.transport.write(invalid)
            self.transport.close()

        def _expect(self) -> None:
            self._late = self.loop.call_later(seconds, self._close)

        def _forget(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _close(self) -> None:
            self._late = None
            if not self.transport.is_closing():
                note("a request did not arrive", level="warning")
                self.transport.write(late)
                self.transport.close()

        def _give_up(self) -> None:
            self._stuck = None
            note("an answer was not taken", level="warning")
            self.transport.abort()

        def _end_stuck(self) -> None:
            if self._stuck is not None:
                self._stuck.cancel()
                self._stuck = None

    return Protocol


def _response(status: int, message: str) -> bytes:
    body, phrase = refusal(message), {400: "Bad Request", 408: "Request Timeout"}[status]
    head: dict[str, Any] = {
        "Content-Type": "application/json",
        "Content-Length": len(body),
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
