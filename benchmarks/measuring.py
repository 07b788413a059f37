"""Time alternatives in turns within one run, and record machine and library versions."""

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

_VERSIONS: Final = ("numpy", "librosa", "soundfile", "soxr", "onnxruntime", "tensorflow", "keras", "dvc", "mlflow")
_QUIET: Final = {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
_TENSORFLOW_THREADS: Final = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
for _name in _TENSORFLOW_THREADS:
    # this library trains on one core by default and a peer on all; here both have all that the process may use
    os.environ[_name] = str(core_count())


@dataclass(frozen=True)
class Times:
    """Seconds of the same work, one per repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.seconds)

    def scaled(self, factor: float) -> "Times":
        """Return the times of `factor` times as much work."""
        return Times(tuple(factor * one for one in self.seconds))


@dataclass(frozen=True)
class Figure:
    """The value of a row of the table, over repeats.

    Attributes
    ----------
    row : str
        Name of the row in `table.ROWS`.
    median, low, high : float or None
        None if it could not be measured; `note` says why.
    note : str
    """

    row: str
    median: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @classmethod
    def of(cls, row: str, values: Sequence[float], note: str = "") -> "Figure":
        """Return the figure of some values."""
        return cls(row, statistics.median(values), min(values), max(values), note)

    @classmethod
    def ratio(cls, row: str, own: Times, peer: Times, note: str = "") -> "Figure":
        """Return how many times faster than the peer this library is, repeat by repeat."""
        ratios = [its / ours for ours, its in zip(own.seconds, peer.seconds, strict=True)]
        return cls.of(row, ratios, f"{_seconds(own.median)} against {_seconds(peer.median)}" + (note and f"; {note}"))


@dataclass(frozen=True)
class Run:
    """A finished command; `peak` is the most bytes (PSS) that it and its descendants held, 0 if not watched."""

    seconds: float
    peak: int
    output: str = field(repr=False)


def interleaved(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Times]:
    """Time ways to do the same work in turns, so that all meet the same machine; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    return {name: Times(tuple(found[1:])) for name, found in seconds.items()}


@contextmanager
def apart(make: Callable[[], Callable[[Any], object]], items: Sequence[Any]) -> Iterator[Callable[[], None]]:
    """Make a way in a process of its own; yield a function that applies it to all items.

    Otherwise what one library does to its process, such as keeping freed memory, would help or slow the others.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _prepare, (make, items)) as process:
        yield lambda: process.submit(_apply).result()


_prepared: tuple[Callable[[Any], object], Sequence[Any]] | None = None
"""Set in a process that `apart` started."""


def _prepare(make: Callable[[], Callable[[Any], object]], items: Sequence[Any]) -> None:
    global _prepared
    _prepared = make(), items


def _apply() -> None:
    assert _prepared is not None
    way, items = _prepared
    for item in items:
        way(item)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run(
    *command: str, folder: Path | None = None, environment: Mapping[str, str] | None = None, watched: bool = False
) -> Run:
    """Run a command of this environment; a failure ends the benchmark with the command's output.

    With `watched`, peak memory is sampled, which takes much of a core.
    """
    with tempfile.TemporaryFile() as output:
        began, peak = time.perf_counter(), 0
        with started(*command, folder=folder, environment=environment, output=output) as process:
            while watched and process.poll() is None:
                peak = max(peak, memory(process))
                time.sleep(0.2)
            process.wait()
        seconds = time.perf_counter() - began
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode:
        raise UserError(f"`{' '.join(command)}` ended with status {process.returncode}:\n{text[-3000:]}")
    return Run(seconds, peak, text)


@contextmanager
def started(
    *command: str, folder: Path | None = None, environment: Mapping[str, str] | None = None, output: Any
) -> Iterator[psutil.Popen]:
    """Start a command of this environment; kill what is left of it and its children at the end of the block."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # without bytecode, this library would be compiled at every start
    left_out = {"PYTHONDONTWRITEBYTECODE", *_TENSORFLOW_THREADS}
    inherited = {name: value for name, value in os.environ.items() if name not in left_out}
    process = psutil.Popen(
        [sys.executable if command[0] == "python" else command[0], *command[1:]],
        cwd=folder,
        env={**inherited, **_QUIET, "PATH": path, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            for one in [*process.children(recursive=True), process]:
                one.kill()
            process.wait()


def memory(process: psutil.Process) -> int:
    """Return the bytes that a process and its descendants hold; shared memory counts once (PSS) where known."""
    held = 0
    try:
        for one in [process, *process.children(recursive=True)]:
            info = one.memory_full_info()
            held += getattr(info, "pss", info.rss)
    except psutil.Error:
        return held  # a process ended in the meantime
    return held


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process and those it starts on one core, where the system can, and BLAS on one thread."""
    from threadpoolctl import threadpool_limits

    before = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    if before:
        os.sched_setaffinity(0, {max(before)})
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        if before:
            os.sched_setaffinity(0, before)


def recordings() -> Path:
    """Return the folder of TESS that TESS_DIR names."""
    named = os.environ.get("TESS_DIR", "")
    if not named or not Path(named).expanduser().is_dir():
        problem = f"{named} is not a folder" if named else "is not set"
        raise UserError(f"TESS_DIR {problem}. The benchmarks use the recordings of TESS: TESS_DIR=/path make bench")
    return Path(named).expanduser().resolve()


def some(items: Sequence[Any], count: int) -> list[Any]:
    """Return `count` items, evenly spread."""
    return [items[number * len(items) // count] for number in range(min(count, len(items)))]


def results(*, tiny: bool) -> Path:
    """Return the folder of results; those of the tiny form do not count."""
    return SCRATCH / "tiny" if tiny else RESULTS


def write(name: str, content: Mapping[str, Any], *, tiny: bool) -> None:
    """Write results/NAME.json, with the machine."""
    write_json(results(tiny=tiny) / f"{name}.json", {"machine": _machine(), **content})


def write_figures(name: str, figures: Sequence[Figure], *, tiny: bool, **more: Any) -> None:
    """Print figures and write them to results/NAME.json."""
    for one in figures:
        value = "not measured" if one.median is None else f"{one.median:.3g} ({one.low:.3g} to {one.high:.3g})"
        print(f"{one.row}: {value}; {one.note}", flush=True)
    write(name, {"figures": [asdict(one) for one in figures], **more}, tiny=tiny)


def options(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of a script."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a few recordings: checks that it runs, measures nothing")
    return parser


def main(work: Callable[[], None]) -> None:
    """Run a script; a user error is one line."""
    try:
        work()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _seconds(value: float) -> str:
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": core_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _VERSIONS},
        "load": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
