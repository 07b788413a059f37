"""Time and peak memory of every stage that `dvc repro` runs in this checkout.

    python benchmarks/stages.py --force --single-item featurize
    python benchmarks/stages.py

Results of earlier calls stay in results/stages.json, so a pipeline can be measured in parts. Memory is that of the
stage's process and all its workers.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil

import measuring
from speech_emotion.config.base import read_params

sys.path.insert(0, str(measuring.ROOT / "tests"))

from helpers import workspaces

_LOOK_SECONDS: Final = 0.5


def main() -> None:
    """Run `dvc repro`, and write results/stages.json."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="%(prog)s [-h] [arguments of `dvc repro`]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found, status = watch(measuring.ROOT, parser.parse_known_args()[1])
    target = measuring.RESULTS / "stages.json"
    known = json.loads(target.read_text(encoding="utf-8"))["stages"] if target.exists() else {}
    corpus = read_params(measuring.ROOT / "params.yaml")["corpus"]["name"]
    measuring.write("stages", {"corpus": corpus, "stages": dict(sorted((known | found).items()))}, tiny=False)
    for name, row in found.items():
        print(f"{name}: {row['seconds']:.1f} s, {row['peak_mib']:.0f} MiB", flush=True)
    sys.exit(status)


def watch(folder: Path, arguments: Sequence[str]) -> tuple[dict[str, dict[str, Any]], int]:
    """Run `dvc repro` in a repository; return seconds and peak memory of each stage it started, and its status."""
    command = [sys.executable, "-m", "dvc", "repro", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=measuring.surroundings())
    dvc = psutil.Process(process.pid)
    found: dict[str, dict[str, Any]] = {}
    try:
        while process.poll() is None:
            for name, stage in workspaces.running_stages(dvc):
                row = found.setdefault(name, {"seconds": 0.0, "peak_mib": 0.0})
                row["seconds"] = round(max(row["seconds"], time.time() - stage.create_time()), 1)
                row["peak_mib"] = round(max(row["peak_mib"], measuring.memory(stage) / 2**20), 1)
            time.sleep(_LOOK_SECONDS)
    finally:
        process.wait()
    return found, process.returncode


if __name__ == "__main__":
    measuring.main(main)
