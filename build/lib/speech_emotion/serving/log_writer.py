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
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from speech_emotion.config.monitoring import LogSettings
from speech_emotion.core.errors import UserError

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0
_RESTART_SECONDS: Final = 1.0
_BUFFER_BYTES: Final = 4 * 2**20
"""Limit of rows that wait for the process; more are dropped, so that responses never wait."""


class LogWriter:
    """The process that writes the log, as the server sees it; `note(event, **details)` logs an event."""

    def __init__(self, folder: Path, settings: LogSettings, *, note: Callable[..., None]) -> None:
        self._order = json.dumps({"folder": str(folder), **settings.model_dump(mode="json")})
        self._note = note
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._dropping = False

    async def start(self) -> None:
        """Start the process; raises UserError if the log cannot be written."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "speech_emotion.serving.log_writer", self._order),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_START_SECONDS):
                first = await process.stdout.readline()
        except TimeoutError:
            process.kill()
            raise UserError(f"the process that writes the log did not start within {_START_SECONDS:g} s.") from None
        problem = json.loads(first).get("error") if first else "the process that writes the log ended; see above."
        if problem:
            await process.wait()
            raise UserError(problem)
        self._process = process
        self._listening = asyncio.create_task(self._listen(process))

    def write(self, rows: bytes) -> None:
        """Pass on rows, a JSON list on one line, without waiting."""
        pipe = None if self._process is None else self._process.stdin
        full = pipe is None or pipe.is_closing() or pipe.transport.get_write_buffer_size() > _BUFFER_BYTES
        if full and not self._dropping:
            self._note("log rows dropped", level="error")
        self._dropping = full
        if pipe is not None and not full:
            pipe.write(rows + b"\n")

    async def close(self) -> None:
        """Wait until the process has written its rows."""
        process, self._process = self._process, None
        if process is None or process.stdin is None or self._listening is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            self._note("log not written to its end", level="error")
            process.kill()
        await self._listening

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Log the messages of the process, and start another if it ends early."""
        assert process.stdout is not None
        async for line in process.stdout:
            self._note(**json.loads(line))
        await process.wait()
        if self._process is not process:
            return
        self._process = None
        self._note("log writer ended", level="error", status=process.returncode)
        await asyncio.sleep(_RESTART_SECONDS)
        try:
            await self.start()
        except UserError as error:
            self._note("log writer does not start", level="error", reason=str(error))


def main() -> None:
    """Write the rows on standard input until it ends."""
    from speech_emotion.monitoring.prediction_log import Logbook

    order: dict[str, Any] = json.loads(sys.argv[1])
    # a service manager signals the whole group; this process ends when its input does
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        book = Logbook(Path(order["folder"]), LogSettings(rows=order["rows"], minutes=order["minutes"]))
    except UserError as error:
        _report(error=str(error))
        return
    _report(ready=True)
    for line in _lines(sys.stdin.fileno(), lambda: book.due):
        try:
            if line:
                book.add(json.loads(line))
            else:
                book.write()
        # a compromised worker may send anything
        except (OSError, ValueError, LookupError, TypeError) as error:
            _report(event="log rows lost", level="error", reason=f"{type(error).__name__}: {error}"[:300])


def _lines(descriptor: int, due: Callable[[], float | None]) -> Iterator[bytes]:
    """Yield lines as they arrive, and an empty one when rows are due (in `due()` seconds) and at the end."""
    waiting = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], due())
        part = os.read(descriptor, 2**16) if ready else b""
        *whole, waiting = (waiting + part).split(b"\n")
        yield from filter(None, whole)
        if not part:
            yield b""
            if ready:
                return


def _report(**content: Any) -> None:
    with suppress(BrokenPipeError):  # the server has gone; its rows are written nevertheless
        print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main()
