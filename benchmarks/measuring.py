"""Time alternatives in turns within one run, and record the machine and library versions."""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import psutil

from speech_emotion.core.errors import UserError
from speech_emotion.core.io import write_json
from speech_emotion.core.parallel import core_count

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results"
SCRATCH: Final = ROOT / ".scratch" / "bench"

_LOOK_SECONDS: Final = 0.05
"""Between two looks at a process's memory."""

_VERSIONS: Final = (
    "numpy",
    "librosa",
    "soundfile",
    "soxr",
    "onnxruntime",
    "tensorflow",
    "keras",
    "dvc",
    "mlflow",
    "optuna",
    "ray",
)

# what the parts of a benchmark start answers like a user's own: nothing calls out by itself, and nothing counts users
_QUIET: Final = {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0"}


_TENSORFLOW_THREADS: Final = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
for _name in _TENSORFLOW_THREADS:
    # this library trains on one core, for the same bits everywhere; a peer takes all, and so both have them here
    os.environ.setdefault(_name, str(core_count()))


@dataclass(frozen=True)
class Times:
    """Seconds of the same work, one a repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    def __truediv__(self, other: "Times") -> "Spread":
        """Return how many times as long this takes as the other, repeat by repeat: each pair met the same machine."""
        return Spread.of([own / its for own, its in zip(self.seconds, other.seconds, strict=True)])

    def scaled(self, factor: float) -> "Times":
        """Return the times of so many times as much."""
        return Times(tuple(factor * one for one in self.seconds))


@dataclass(frozen=True)
class Spread:
    """A figure over repeats: its median, and the lowest and highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return that of some values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Figure:
    """What was measured for a row of the table; `table.ROWS` says what has to be.

    Attributes
    ----------
    row : str
        The row's name in `table.ROWS`.
    value : Spread or None
        None: could not be measured here; `note` says why.
    own, peer : float or None
        Median seconds behind it, of this library and of what it is held against.
    note : str
        What a reader has to know of it.
    """

    row: str
    value: Spread | None
    own: float | None = None
    peer: float | None = None
    note: str = ""

    @classmethod
    def ratio(cls, row: str, own: Times, peer: Times, note: str = "") -> "Figure":
        """Return how many times faster than the peer it is."""
        return cls(row, peer / own, own.median, peer.median, note)

    @classmethod
    def time(cls, row: str, own: Times, note: str = "", *, unit: float = 1.0) -> "Figure":
        """Return how long it takes, in a unit of so many seconds."""
        return cls(row, Spread.of([one / unit for one in own.seconds]), own.median, None, note)


@dataclass(frozen=True)
class Run:
    """A command that has ended.

    Attributes
    ----------
    seconds : float
    peak : int
        The most bytes that it and its descendants held at once, what they share counted once (PSS, where the system
        knows it); 0: nobody looked.
    output : str
    """

    seconds: float
    peak: int
    output: str = field(repr=False)


def interleaved(ways: Mapping[str, Callable[[], object]], repeats: int, *, warm: bool = True) -> dict[str, Times]:
    """Time ways to do the same work, one after the other, again and again, so that all meet the same machine.

    Parameters
    ----------
    ways : mapping of str to callable
    repeats : int
    warm : bool
        Whether each is done once before, uncounted.
    """
    if warm:
        for way in ways.values():
            way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    return {name: Times(tuple(found)) for name, found in seconds.items()}


@contextmanager
def apart(make: Callable[..., Callable[[], Any]], *arguments: object) -> Iterator[Callable[[], Any]]:
    """Have work made, and then done whenever it is called, in a process of its own.

    What a library does to its process, to how memory is kept for instance, would help or hinder the others in it.

    Parameters
    ----------
    make : callable
        Of a module; given the arguments, it returns the work. What the work returns comes back from each call.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _prepare, (make, arguments)) as process:
        yield lambda: process.submit(_do).result()


_work: Callable[[], Any] | None = None
"""Of a process that `apart` started."""


def _prepare(make: Callable[..., Callable[[], Any]], arguments: Sequence[object]) -> None:
    global _work
    _work = make(*arguments)


def _do() -> Any:
    if _work is None:
        raise RuntimeError("nothing was prepared in this process")
    return _work()


def each(make: Callable[[], Callable[[Any], object]], items: Sequence[Any]) -> Callable[[], list[float]]:
    """Make a way to do something with an item; return what goes over all of them and gives the seconds of each.

    For `apart`, in whose process the way is then made.
    """
    way = make()
    return lambda: [timed(partial(way, item)) for item in items]


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a piece of work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run(
    *command: str, folder: Path | None = None, environment: Mapping[str, str] | None = None, watched: bool = False
) -> Run:
    """Run a command of this environment to its end; one that fails ends the benchmark with what it said.

    Parameters
    ----------
    command : str
        A program and its arguments; `python` is the interpreter that runs this.
    folder : Path or None
        To run it in.
    environment : mapping or None
        What is set for it beside what is set here.
    watched : bool
        Whether to look at its memory all the while, which takes much of a core and holds it up.
    """
    program = sys.executable if command[0] == "python" else command[0]
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = psutil.Popen(
            [program, *command[1:]],
            cwd=folder,
            env=surroundings(environment),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        peak = 0
        try:
            while watched and process.poll() is None:
                peak = max(peak, memory(process))
                time.sleep(_LOOK_SECONDS)
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
        seconds = time.perf_counter() - began
        said.seek(0)
        output = said.read().decode(errors="replace")
    if process.returncode:
        raise UserError(f"`{' '.join(command)}` ended with status {process.returncode}:\n{output[-3000:]}")
    return Run(seconds, peak, output)


def surroundings(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that a command of this environment is started with, and those that are set for it beside."""
    own_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = {**os.environ, **_QUIET, "PATH": own_path, **(more or {})}
    # an installation has its bytecode; whoever is told not to write any would compile this library at every start
    for name in ("PYTHONDONTWRITEBYTECODE", *_TENSORFLOW_THREADS):
        found.pop(name, None)
    return found


def memory(process: psutil.Process) -> int:
    """Return the bytes that a process and its descendants hold, what they share counted once where that is known."""
    held = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    for one in family:
        try:
            info = one.memory_full_info()
            held += getattr(info, "pss", info.rss)
        except psutil.Error:
            continue  # it has ended meanwhile
    return held


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process to one core, and those that it starts, where the system can, and BLAS to one thread."""
    from threadpoolctl import threadpool_limits

    if not hasattr(os, "sched_setaffinity"):
        with threadpool_limits(limits=1):
            yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        os.sched_setaffinity(0, before)


def recordings() -> Path:
    """Return the folder of TESS.

    Raises
    ------
    UserError
        TESS_DIR names none.
    """
    named = os.environ.get("TESS_DIR", "")
    if not named or not Path(named).expanduser().is_dir():
        raise UserError(
            f"the benchmarks measure on TESS, and TESS_DIR {f'names no folder ({named})' if named else 'is not set'}. "
            "TESS_DIR=/where/it/is make bench; README.md says where to get the recordings."
        )
    return Path(named).expanduser().resolve()


def some(items: Sequence[Any], count: int) -> list[Any]:
    """Return so many items, evenly spread over all."""
    return [items[number * len(items) // count] for number in range(min(count, len(items)))]


def machine() -> dict[str, Any]:
    """Return what this is measured on."""
    return {
        "cpu": _cpu(),
        "cores": core_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _VERSIONS},
        "load": round(os.getloadavg()[0], 2),
    }


def results(*, tiny: bool) -> Path:
    """Return the folder of results; what the tiny form gives is no result."""
    return SCRATCH / "tiny" if tiny else RESULTS


def write(name: str, content: Mapping[str, Any], *, tiny: bool) -> None:
    """Write what a script has measured to results/NAME.json, with the machine."""
    write_json(results(tiny=tiny) / f"{name}.json", {"machine": machine(), **content})


def write_figures(name: str, figures: Sequence[Figure], *, tiny: bool, **more: Any) -> None:
    """Write rows of the table to results/NAME.json and print them, a line each."""
    for one in figures:
        print(f"{one.row}: {_words(one)}", flush=True)
    write(name, {"figures": [asdict(one) for one in figures], **more}, tiny=tiny)


def options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every script has: a tiny form, in which everything is run and nothing is measured."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="run all of it on a sliver: whether it works, not how fast")
    return parser


def main(work: Callable[[], None]) -> None:
    """Run a script's work; a mistake is one line."""
    try:
        work()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _words(figure: Figure) -> str:
    if figure.value is None:
        return figure.note
    value = figure.value
    return f"{value.median:.3g} ({value.low:.3g} to {value.high:.3g})" + (f"; {figure.note}" if figure.note else "")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
