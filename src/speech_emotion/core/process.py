"""Run a stage as a process that reports errors in one line, holds locks and dies with its parent."""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from speech_emotion.core.errors import UserError, in_words, print_masked_traceback

SCRATCH = Path(".scratch")
"""Holds what must survive a kill, keyed by its inputs: DVC deletes a stage's outputs before it starts the stage."""

_PR_SET_PDEATHSIG = 1

_PARENT = os.getppid()
"""At import: the parent may die during the later imports of a stage, before `die_with_parent` is called."""


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main function and exit with its status.

    A `UserError`, or an error of the operating system such as a full disk, is printed in one line. A stage is killed
    when DVC dies.
    """
    sys.excepthook = print_masked_traceback
    die_with_parent()
    try:
        main()
    except (UserError, OSError) as error:
        message = in_words(error) if isinstance(error, OSError) else str(error)
        if not message:
            raise
        print(f"error: {message}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, however that dies (Linux only).

    `exec` in dvc.yaml makes a stage a child of DVC instead of a shell's. Workers call this too.
    """
    if sys.platform != "linux":
        return
    import multiprocessing  # here, since most predictions start no process

    spawned_by = multiprocessing.parent_process()
    parent = _PARENT if spawned_by is None else spawned_by.pid
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(137)  # the parent died before prctl


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def alone(name: str) -> Iterator[Path]:
    """Lock the folder `name` below `.scratch`; raise a UserError if another process holds the lock for a minute."""
    from filelock import FileLock, Timeout

    folder = SCRATCH / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=60):
            yield folder
    except Timeout:
        raise UserError(
            f"{folder}: locked by another process that does the same work. Wait for it or stop it, then try again."
        ) from None


def process_name() -> str:
    """Return a name that no other process has or had: host, process id and start time."""
    import psutil  # here, since a prediction does not need it

    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_gone(process: str) -> bool:
    """Return whether the process with this `process_name` has ended; False for a process of another host."""
    import psutil

    host, pid, started = process.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        found = psutil.Process(int(pid))
        # the system's start time can shift with the clock
        return abs(found.create_time() - float(started)) > 2 or found.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
