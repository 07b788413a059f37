"""Takes a stage's main function; gives a process that reports mistakes in one line and dies with its parent."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from speech_emotion.core.errors import UserError, in_words

SCRATCH = Path(".scratch")
"""What must survive a kill lies here, keyed by its inputs: DVC deletes a stage's outputs before it starts the stage."""

_PR_SET_PDEATHSIG = 1


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main function and end the process with its status.

    A `UserError` is printed as it is, and ends the process with status 1; so does what the machine refuses, such as a
    full disk. A stage outlives neither DVC nor the terminal that it was started from. One that was called by hand with
    other arguments than those of dvc.yaml ends with status 2, and says how DVC calls it.
    """
    die_with_parent()
    try:
        main()
    except (UserError, OSError) as error:
        message = in_words(error) if isinstance(error, OSError) else str(error)
        if not message:
            raise
        print(f"error: {message}", file=sys.stderr, flush=True)
        sys.exit(1)
    except (ValueError, IndexError) as error:
        stage = _stage()
        if stage is None or not _about_arguments(error):
            raise
        print(
            f"error: {sys.argv[0]}: it takes other arguments than the {len(sys.argv) - 1} given. DVC knows them: "
            f"`dvc repro {stage}`.",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _about_arguments(error: Exception) -> bool:
    """Whether an error was raised by a line of main itself, not below it, that takes `sys.argv` apart."""
    raised = traceback.extract_tb(error.__traceback__)
    return len(raised) == 2 and "sys.argv" in (raised[-1].line or "")


def _stage() -> str | None:
    """Return what `dvc repro` is to be given for the script of this process, if that is a stage's."""
    script = Path(sys.argv[0])
    if script.resolve().parent.name == "pipeline":
        return script.stem
    beside = script.with_name("dvc.yaml")
    return str(beside) if beside.exists() else None


def die_with_parent() -> None:
    """End this process when the one that started it ends, however that ends.

    DVC starts stages through a shell and a killed DVC leaves both running: the shell is told here by its own death, and
    its death is noticed by watching who this process's parent's parent is.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(137)  # it ended before anybody watched
    ancestors = _ancestors()
    threading.Thread(target=_watch, args=(ancestors,), name="parent-watch", daemon=True).start()


@contextmanager
def alone(name: str) -> Iterator[Path]:
    """Hold the lock of a piece of work and give its scratch folder, which survives a kill.

    Parameters
    ----------
    name : str
        The work's name: a stage, and the digest of its inputs where it keeps something.

    Raises
    ------
    UserError
        Another process has held the lock for a minute.
    """
    folder = SCRATCH / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=60):
            yield folder
    except Timeout:
        raise UserError(
            f"{folder}: another process is at the same work. Wait for it, or end it, and start again."
        ) from None


def _ancestors() -> tuple[int, ...]:
    """Return the parent and, where that is a shell that DVC put in between, its parent too."""
    import psutil

    parent = psutil.Process(os.getpid()).parent()
    if parent is None:
        return ()
    found = [parent.pid]
    if parent.name() in {"sh", "bash", "zsh", "dash", "fish", "cmd.exe"}:
        above = parent.parent()
        if above is not None and any("dvc" in part for part in above.cmdline()[:3]):
            found.append(above.pid)
    return tuple(found)


def _watch(ancestors: tuple[int, ...]) -> None:
    import psutil

    born = {pid: psutil.Process(pid).create_time() for pid in ancestors if psutil.pid_exists(pid)}
    while True:
        time.sleep(0.5)
        for pid, started in born.items():
            try:
                process = psutil.Process(pid)
                if process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE:
                    continue
            except psutil.NoSuchProcess:
                pass
            os._exit(137)
