"""Time, rate and peak memory of `predict` over many files, with two kills on the way.

    python benchmarks/bulk.py /path/to/tess --files 10000

The recordings are repeated, as links, until there are enough.
"""

import argparse
import csv
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil


def main() -> None:
    """Run, kill, run, kill, run; count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()
    sources = sorted(options.recordings.resolve().rglob("*.wav"))
    with tempfile.TemporaryDirectory() as temporary:
        folder, output = Path(temporary) / "many", Path(temporary) / "out.csv"
        folder.mkdir()
        for number in range(options.files):
            (folder / f"{number:06}.wav").symlink_to(sources[number % len(sources)])
        began, peak = time.monotonic(), 0
        for kill in range(1, options.kills + 1):
            peak = max(peak, run(folder, output, until=kill * options.files // (options.kills + 1)))
            print(f"killed after {lines(output)} of {options.files}, {time.monotonic() - began:.0f} s")
        peak = max(peak, run(folder, output, until=None))
        seconds = time.monotonic() - began
        with open(output, newline="") as file:
            paths = [row["path"] for row in csv.DictReader(file)]
        print(f"rows {len(paths)}, of them different {len(set(paths))}, of {options.files}")
        print(
            f"{seconds:.0f} s, {options.files / seconds:.0f} recordings a second, all processes {peak / 2**20:.0f} MiB"
        )


def run(folder: Path, output: Path, *, until: int | None) -> int:
    """Run the command, and kill -9 it at a number of recordings; return the peak of all its processes' memory."""
    process = subprocess.Popen(
        [sys.executable, "-m", "speech_emotion", "predict", str(folder), "--output", str(output)]
    )
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        peak = max(peak, memory(watched))
        if until is not None and lines(output) >= until:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.1)
    return peak


def memory(process: psutil.Process) -> int:
    """Return the bytes that a process and its children hold, what they share counted once."""
    try:
        return sum(one.memory_full_info().pss for one in [process, *process.children(recursive=True)])
    except psutil.Error:
        return 0


def lines(output: Path) -> int:
    """Return how many recordings the journal holds."""
    return sum(path.read_bytes().count(b"\n") for path in output.parent.glob(f".{output.name}.*.journal"))


if __name__ == "__main__":
    main()
