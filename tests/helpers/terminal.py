"""Run Python in a pseudo-terminal, and the type of what runs commands without one."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol


class Command(Protocol):
    """Runs the command line, in an empty folder unless `cwd` names another."""

    def __call__(self, *arguments: object, **environment: object) -> subprocess.CompletedProcess[str]: ...


@dataclass
class Terminal:
    """A process and the file descriptor of its terminal."""

    process: "subprocess.Popen[bytes]"
    descriptor: int

    def read(self, until: str = "\0") -> str:
        """Return the output up to a text, or to the end of the process."""
        shown = b""
        with suppress(OSError):  # Linux tells the end of a terminal so
            while until not in shown.decode(errors="replace") and (block := os.read(self.descriptor, 65536)):
                shown += block
        return shown.decode(errors="replace")


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    """Start Python in a terminal of its own."""
    outside, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "COLUMNS": "90", "LINES": "30", "TERM": "xterm-256color"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    yield Terminal(process, outside)
    os.close(outside)
    assert process.wait(60) == 0
