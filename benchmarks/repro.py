"""Time of `make demo`, and of `dvc repro` from an empty cache to the registered version, with each stage.

    TESS_DIR=/path/to/tess python benchmarks/repro.py

Both run in clones of this checkout, so the state of its cache does not matter.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measuring
from measuring import Figure

sys.path.insert(0, str(measuring.ROOT / "tests"))

from helpers import workspaces


def main() -> None:
    """Measure, and write results/repro.json."""
    given = measuring.options(__doc__).parse_args()
    measuring.recordings()
    measuring.SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=measuring.SCRATCH, prefix="clone-") as folder:
        clone = workspaces.fresh_clone(Path(folder) / "clone")
        if given.tiny:
            workspaces.shrink(clone)
        demo = measuring.run("python", "scripts/demo.py", folder=clone, environment=_environment(clone))
        workspace = clone / ".demo" if given.tiny else clone  # where the demo's stages have run already
        if not given.tiny:  # or stages whose results are in git and equal would be skipped
            (workspace / "dvc.lock").unlink()
        began = time.perf_counter()
        stages = _watched_repro(workspace)
        minutes = (time.perf_counter() - began) / 60
        nothing = [_repro(workspace) for _ in range(1 if given.tiny else 3)]
    figures = [
        Figure.of("demo", [demo.seconds]),
        Figure.of("repro", [minutes]),
        Figure.of("repro nothing", nothing),
    ]
    measuring.write_figures("repro", figures, tiny=given.tiny, stages=stages)


def _environment(clone: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(clone / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{clone / 'mlflow.db'}", "DVC_ROOT": ""}


def _repro(clone: Path) -> float:
    return measuring.run("dvc", "repro", folder=clone, environment=_environment(clone)).seconds


def _watched_repro(clone: Path) -> dict[str, dict[str, Any]]:
    """Run `dvc repro`; return seconds and peak memory (all processes) of each stage."""
    found: dict[str, dict[str, float]] = {}
    with measuring.started(
        "dvc", "repro", folder=clone, environment=_environment(clone), output=subprocess.DEVNULL
    ) as dvc:
        while dvc.poll() is None:
            for name, stage in workspaces.running_stages(dvc):
                row = found.setdefault(name, {"seconds": 0.0, "peak_mib": 0.0})
                row["seconds"] = round(max(row["seconds"], time.time() - stage.create_time()), 1)
                row["peak_mib"] = round(max(row["peak_mib"], measuring.memory(stage) / 2**20), 1)
            time.sleep(0.5)
    if dvc.returncode:
        raise measuring.UserError(f"`dvc repro` ended with status {dvc.returncode}")
    return found


if __name__ == "__main__":
    measuring.main(main)
