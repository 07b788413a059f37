"""Time of `dvc repro` with nothing changed, and the stages that one changed parameter reruns.

    python benchmarks/repro.py

Runs in a clone. If this checkout has the outputs of the pipeline, the clone gets them; otherwise the demo corpus is run
first, with a very small network.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

import measuring
from measuring import Figure, Spread, Times
from speech_emotion.config.base import read_params

sys.path.insert(0, str(measuring.ROOT / "tests"))

from helpers import workspaces

SECTION: Final = "evaluate"
SHORT: Final[Mapping[str, Mapping[str, Any]]] = {
    "split": {"protocols": ["random", "full"]},
    "promote": {"against_champion": ["random"]},
}
"""What the smallest demo is spared beside: none of it changes what DVC looks at when nothing has changed."""


def main() -> None:
    """Measure, and write results/repro.json."""
    given = measuring.options(__doc__).parse_args()
    measuring.SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=measuring.SCRATCH, prefix="clone-") as folder:
        clone = Path(folder) / "clone"
        workspaces.fresh_clone(clone)
        corpus = _fill(clone)
        measuring.run("dvc", "repro", folder=clone, environment=_environment(clone))
        nothing = [_repro(clone) for _ in range(1 if given.tiny else 3)]
        _change(clone, {SECTION: {"calibration_bins": 12}})
        changed = _repro(clone)
    allowed = dependent(workspaces.STAGES, SECTION)
    others = sorted(set(changed[1]) - allowed)
    ran = ", ".join(changed[1])
    count = float(len(others))
    measuring.write_figures(
        "repro",
        [
            Figure.time("repro nothing", Times(tuple(seconds for seconds, _ in nothing)), f"corpus {corpus}"),
            Figure("repro evaluate", Spread(count, count, count), changed[0], None, f"{changed[0]:.0f} s; ran {ran}"),
        ],
        tiny=given.tiny,
    )


def dependent(stages: Mapping[str, Any], section: str) -> set[str]:
    """Return the stages that read a section of params.yaml, what needs what they make, and those that always run."""
    found = {name for name, stage in stages.items() if section in stage.get("params", [])}
    found |= {name for name, stage in stages.items() if stage.get("always_changed")}
    while True:
        made = [out for name in found for out in _paths(stages[name].get("outs", []))]
        more = {
            name
            for name, stage in stages.items()
            if any(_touch(dep, out) for dep in _paths(stage.get("deps", [])) for out in made)
        }
        if more <= found:
            return found
        found |= more


def _paths(entries: list[Any]) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _touch(one: str, other: str) -> bool:
    """Tell whether a path lies in another, whatever stands in their place-holders."""
    shorter, longer = sorted((one.split("/"), other.split("/")), key=len)
    return all(a == b for a, b in zip(shorter, longer, strict=False))


def _fill(clone: Path) -> str:
    """Give a clone this checkout's outputs, or settings for the demo corpus; return the corpus's name."""
    corpus = str(read_params(measuring.ROOT / "params.yaml")["corpus"]["name"])
    if (measuring.ROOT / "models" / corpus / "package").is_dir():
        for name in ("dvc.lock", "params.yaml"):
            shutil.copy2(measuring.ROOT / name, clone / name)
        # without the cache DVC takes outputs for lost, though they lie there
        for name in (f"data/{corpus}", f"models/{corpus}", f"reports/{corpus}", ".dvc/cache"):
            # stages and DVC replace files, and never write into one
            shutil.rmtree(clone / name, ignore_errors=True)
            shutil.copytree(measuring.ROOT / name, clone / name, copy_function=os.link)
        return corpus
    (clone / "dvc.lock").unlink()
    workspaces.shrink(clone)
    measuring.run("speech-emotion", "preset", "demo", folder=clone, environment=_environment(clone))
    _change(clone, SHORT)
    return "demo"


def _environment(clone: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(clone / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{clone / 'mlflow.db'}", "DVC_ROOT": ""}


def _change(clone: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    values = read_params(clone / "params.yaml")
    for section, ours in changes.items():
        values[section] = values[section] | ours
    with open(clone / "params.yaml", "w", encoding="utf-8") as file:
        YAML(typ="safe").dump(values, file)


def _repro(clone: Path) -> tuple[float, list[str]]:
    """Run `dvc repro`; return its seconds and the stages that ran."""
    done = measuring.run("dvc", "repro", folder=clone, environment=_environment(clone))
    lines = [line for line in done.output.splitlines() if line.startswith("Running stage '")]
    return done.seconds, list(dict.fromkeys(line.split("'")[1] for line in lines))


if __name__ == "__main__":
    measuring.main(main)
