"""Takes rows of the log of predictions; gives them to a process of its own, which alone writes them.

Workers come and go, and are killed; the process with the port parses nothing and waits for nothing. So rows go through
both as bytes, and one more process, which no client's bytes reach, gathers them, writes whole files, and outlives the
server by as long as it takes to write the last one.
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

START_SECONDS: Final = 60.0
"""That the process may take to begin."""

STOP_SECONDS: Final = 20.0
"""That it may take to write what it has."""

_HELD_BYTES: Final = 4 * 2**20
"""That may wait for it; beyond that, rows are dropped rather than answers held up."""

_PAUSE_SECONDS: Final = 1.0


class Scribe:
    """The process that writes the log, as the server sees it.

    Parameters
    ----------
    folder : Path
    settings : LogSettings
    note : callable
        Is told what happens (`note(event, **details)`).
    """

    def __init__(self, folder: Path, settings: LogSettings, *, note: Callable[..., None]) -> None:
        self._order = json.dumps({"folder": str(folder), **settings.model_dump(mode="json")})
        self._note = note
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._dropping = False

    async def start(self) -> None:
        """Start the process.

        Raises
        ------
        UserError
            The log cannot be written.
        """
        # -P: a module in the working folder must not take another's place
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "speech_emotion.serving.log_writer", self._order),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                told = await process.stdout.readline()
        except TimeoutError:
            process.kill()
            raise UserError(f"the process that writes the log did not begin within {START_SECONDS:g} s.") from None
        if not told:
            await process.wait()
            raise UserError("the process that was to write the log ended; what it said stands above.")
        content = json.loads(told)
        if "error" in content:
            await process.wait()
            raise UserError(content["error"])
        self._process = process
        self._watch = asyncio.create_task(self._listen(process))

    def write(self, entries: bytes) -> None:
        """Hand on rows, a JSON list on one line; never waits."""
        pipe = None if self._process is None else self._process.stdin
        full = pipe is None or pipe.is_closing() or pipe.transport.get_write_buffer_size() > _HELD_BYTES
        if full and not self._dropping:
            self._note("rows of the log are dropped", level="error")
        self._dropping = full
        if pipe is not None and not full:
            pipe.write(entries + b"\n")

    async def close(self) -> None:
        """Let the process write what it has, and end."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            self._note("the log was not written to its end", level="error")
            process.kill()
            await process.wait()
        if self._watch is not None:
            await self._watch

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Repeat what the process has to tell; where it ends before it is asked to, start another."""
        assert process.stdout is not None
        async for line in process.stdout:
            self._note(**json.loads(line))
        await process.wait()
        if self._process is not process:
            return
        self._process = None
        self._note("the log's process ended", level="error", status=process.returncode)
        await asyncio.sleep(_PAUSE_SECONDS)
        try:
            await self.start()
        except UserError as error:
            self._note("the log's process does not start", level="error", reason=str(error))


def main() -> None:
    """Write what comes on standard input until it ends."""
    from speech_emotion.monitoring.prediction_log import Logbook

    order: dict[str, Any] = json.loads(sys.argv[1])
    # who stops the server may signal the whole group; this process ends when the server lets go of it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        book = Logbook(Path(order["folder"]), LogSettings(rows=order["rows"], minutes=order["minutes"]))
    except UserError as error:
        _tell(error=str(error))
        return
    _tell(ready=True)
    for line in _lines(sys.stdin.fileno(), lambda: book.due):
        try:
            if line:
                book.add(json.loads(line))
            else:
                book.write()
        # a worker that a recording has taken over may hand on anything
        except (OSError, ValueError, LookupError, TypeError) as error:
            _tell(event="rows of the log are lost", level="error", reason=f"{type(error).__name__}: {error}"[:300])


def _lines(descriptor: int, due: Callable[[], float | None]) -> Iterator[bytes]:
    """Yield lines as they come, and an empty one whenever what is due in so many seconds is due, and at the end."""
    waiting = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], due())
        if not ready:
            yield b""
            continue
        part = os.read(descriptor, 2**16)
        if not part:
            yield b""
            return
        *whole, waiting = (waiting + part).split(b"\n")
        yield from filter(None, whole)


def _tell(**content: Any) -> None:
    with suppress(BrokenPipeError):  # the server is gone; what it handed on is written all the same
        print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main()
