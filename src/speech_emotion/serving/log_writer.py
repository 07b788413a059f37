"""Write the prediction log in a process of its own.

Workers are killed and the server must not wait for a disk, so rows pass through both as bytes. This process collects
them, writes whole files, and outlives a killed server until the last file is written.
"""

import json
import queue
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from speech_emotion.config.monitoring import LogSettings
from speech_emotion.core.errors import UserError

_STOP_SECONDS: Final = 20.0
_WAITING: Final = 4000
"""Requests whose rows wait for the process; more are dropped, so that responses never wait."""


class LogWriter:
    """The process that writes the log, as the server sees it; `note(event, **details)` logs an event.

    Raises
    ------
    UserError
        The log cannot be written.
    """

    def __init__(self, folder: Path, settings: LogSettings, *, note: Callable[..., None]) -> None:
        self._order, self._note, self._dropping = (folder, settings), note, False
        self._rows: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._start()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def write(self, rows: bytes) -> None:
        """Pass on rows, a JSON list, without waiting."""
        try:
            self._rows.put_nowait(rows)
            self._dropping = False
        except queue.Full:
            if not self._dropping:
                self._note("log rows dropped", level="error")
            self._dropping = True

    def close(self) -> None:
        """Wait until the process has written its rows."""
        with suppress(queue.Full):
            self._rows.put(None, timeout=_STOP_SECONDS)
            self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            self._note("log not written to its end", level="error")
            self._process.kill()

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_write_rows, args=(theirs, *self._order))
        self._process.start()
        theirs.close()
        try:
            problem = self._pipe.recv()
        except (EOFError, OSError):
            problem = "the process that writes the log ended; see its output above"
        if problem:
            raise UserError(problem)

    def _pass_on(self) -> None:
        while (rows := self._rows.get()) is not None:
            try:
                problem = self._send(rows)
            except (EOFError, OSError):
                self._process.join()
                self._note("log writer ended", level="error", status=self._process.exitcode)
                problem = self._send_to_another(rows)
            if problem:
                self._note("log rows lost", level="error", reason=problem)
        self._pipe.close()
        self._process.join()

    def _send(self, rows: bytes) -> str:
        """Return why rows are lost, if they are."""
        self._pipe.send_bytes(rows)
        return str(self._pipe.recv())

    def _send_to_another(self, rows: bytes) -> str:
        try:
            self._start()
            return self._send(rows)
        except (EOFError, OSError, UserError) as error:
            return str(error)


def _write_rows(pipe: Connection, folder: Path, settings: LogSettings) -> None:
    """Write the rows that arrive until the server has gone; answer each message with what was wrong, or nothing."""
    from speech_emotion.monitoring.prediction_log import Logbook

    # a service manager signals the whole group
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        book, problem = Logbook(folder, settings), ""
    except UserError as error:
        pipe.send(str(error))
        return
    pipe.send("")
    gone = False
    while not gone:
        rows = b""
        try:
            rows = pipe.recv_bytes() if pipe.poll(book.due) else b""
        except (EOFError, OSError):
            gone = True
        try:
            if rows:
                book.add(json.loads(rows))
            else:
                book.write()
        # a compromised worker may send anything
        except (OSError, ValueError, LookupError, TypeError) as error:
            problem = f"{type(error).__name__}: {error}"[:300]
        if rows:
            with suppress(OSError):
                pipe.send(problem)
            problem = ""
