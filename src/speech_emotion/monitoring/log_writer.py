"""Write the prediction log in a process of its own.

Workers are killed and the server must not wait for a disk, so rows pass through both as bytes. This process collects
them, writes whole files, and outlives a killed server until the last file is written.
"""

import asyncio
import json
import os
import select
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from speech_emotion.config.monitoring import LogSettings
from speech_emotion.core.errors import UserError

_STOP_SECONDS: Final = 20.0
_BUFFER_BYTES: Final = 4 * 2**20
"""Limit of rows that wait for the process; more are dropped, so that responses never wait."""


class LogWriter:
    """The process that writes the log, as the server sees it; `note(event, **details)` logs an event."""

    _process: Process
    _listening: asyncio.Task[None]

    def __init__(self, folder: Path, settings: LogSettings, *, note: Callable[..., None]) -> None:
        self._order, self._note = (str(folder), settings.model_dump_json()), note
        self._closing = False

    async def start(self) -> None:
        """Start the process; raises UserError if the log cannot be written."""
        command = (sys.executable, "-P", "-m", "speech_emotion.monitoring.log_writer", *self._order)
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        problem = await self._process.stdout.readline()  # type: ignore[union-attr]
        if problem != b"\n":
            raise UserError(problem.decode().strip() or "the process that writes the log ended; see its output above")
        self._listening = asyncio.create_task(self._listen())

    def write(self, rows: bytes) -> None:
        """Pass on rows, a JSON list on one line, without waiting."""
        pipe = self._process.stdin
        full = pipe is None or pipe.is_closing() or pipe.transport.get_write_buffer_size() > _BUFFER_BYTES
        if full:
            self._note("log rows dropped", level="error")
        else:
            pipe.write(rows + b"\n")  # type: ignore[union-attr]

    async def close(self) -> None:
        """Wait until the process has written its rows."""
        if hasattr(self, "_listening"):
            self._closing = True
            self._process.stdin.close()  # type: ignore[union-attr]
            try:
                await asyncio.wait_for(self._listening, _STOP_SECONDS)
            except TimeoutError:
                self._note("log not written to its end", level="error")
                self._process.kill()

    async def _listen(self) -> None:
        """Log what the process reports, and start another if it ends early."""
        async for line in self._process.stdout:  # type: ignore[union-attr]
            self._note("log rows lost", level="error", reason=line.decode().strip())
        status = await self._process.wait()
        if not self._closing:
            self._note("log writer ended", level="error", status=status)
            try:
                await self.start()
            except UserError as error:
                self._note("log writer does not start", level="error", reason=str(error))


def main() -> None:
    """Write the rows on standard input until it ends; report a lost row in a line on standard output."""
    from speech_emotion.monitoring.prediction_log import Logbook

    # a service manager signals the whole group; this process ends when its input does
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        book = Logbook(Path(sys.argv[1]), LogSettings.model_validate_json(sys.argv[2]))
    except UserError as error:
        return _report(str(error))
    _report("")
    waiting, ended = b"", False
    while not ended:
        ready, _, _ = select.select([sys.stdin], [], [], book.due)
        part = os.read(sys.stdin.fileno(), 2**16) if ready else b""
        ended = bool(ready) and not part
        *lines, waiting = (waiting + part).split(b"\n")
        for line in lines if part else [b""]:
            try:
                if line:
                    book.add(json.loads(line))
                else:
                    book.flush()
            # a compromised worker may send anything
            except (OSError, ValueError, LookupError, TypeError) as error:
                _report(f"{type(error).__name__}: {error}"[:300])


def _report(message: str) -> None:
    with suppress(BrokenPipeError):  # the server has gone; its rows are written nevertheless
        os.write(sys.stdout.fileno(), message.replace("\n", " ").encode() + b"\n")


if __name__ == "__main__":
    main()
