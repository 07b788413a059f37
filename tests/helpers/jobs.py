"""Functions for worker processes, in a module that is imported quickly."""

import os
import signal
import time
from pathlib import Path

from threadpoolctl import threadpool_info

from speech_emotion.core.errors import UserError
from speech_emotion.core.parallel import THREADS


def tell(folder: Path, name: str) -> None:
    """Write the numbers of threads into a file, or die if the name says so."""
    if name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / name).write_text(" ".join(os.environ.get(one, "-") for one in THREADS))


def slow_first(number: int) -> tuple[int, int]:
    """Return an item and the number of BLAS threads."""
    time.sleep(0.3 if number == 0 else 0)
    return number, max(one["num_threads"] for one in threadpool_info())


def kill_self(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    if number == 5:
        raise UserError(f"{number} is odd")
    return number
