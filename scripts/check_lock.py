"""Check that dvc.lock agrees with dvc.yaml, the parameters and the tracked files, without data and without running.

Data and models are not in git, but dvc.lock has their hashes. Checked are each command, parameter, dependency and
result that git tracks, and that each stage used what the stage before it produced.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from dvc.stage import PipelineStage
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent


def main(root: Path) -> int:
    """Print every disagreement; return their number."""
    if not (root / "dvc.lock").exists():
        print("dvc.lock: is missing. `dvc repro` writes it.")
        return 1
    locked: dict[str, Any] = YAML(typ="safe").load((root / "dvc.lock").read_text())["stages"]
    with Repo(str(root)) as repo:
        # tuning/dvc.yaml is left out: a search is not repeated for every change
        stages = {
            stage.addressing: stage
            for stage in repo.index.stages
            if isinstance(stage, PipelineStage) and stage.path_in_repo == "dvc.yaml"
        }
        found = [f"{name}: is in dvc.lock and not in dvc.yaml" for name in locked if name not in stages]
        made = {out["path"]: out["md5"] for entry in locked.values() for out in entry.get("outs", [])}
        tracked = tracked_files(root)
        for name, stage in stages.items():
            if stage.is_callback or (stage.always_changed and not stage.outs):
                continue  # runs every time
            if name not in locked:
                found.append(f"{name}: has never run (it is not in dvc.lock)")
                continue
            found += [f"{name}: {problem}" for problem in disagreements(stage, locked[name], made, tracked, root)]
    for problem in found:
        print(problem)
    if found:
        print(f"\ndvc.lock disagrees in {len(found)} places. `dvc repro` brings it up to date; commit what it changes.")
    else:
        print(f"dvc.lock agrees with code, parameters and tracked results ({len(stages)} stages)")
    for lock in sorted((root / "reports").glob("*/dvc.lock")):
        changed = changed_code(lock, tracked, root)
        state = f"stale, changed since: {', '.join(changed)}" if changed else "made by the code as it is"
        print(f"{lock.parent.relative_to(root)}: {state}")
    return len(found)


def changed_code(lock: Path, tracked: set[str], root: Path) -> list[str]:
    """Return the code that a run in a clone, such as that of `make voices`, used and that has changed since."""
    stages = YAML(typ="safe").load(lock.read_text())["stages"].values()
    used = {dep["path"]: dep["md5"] for entry in stages for dep in entry.get("deps", [])}
    code = {path: md5 for path, md5 in used.items() if path.startswith(("src/", "pipeline/"))}
    changed = sorted(path for path, md5 in code.items() if digest_tracked(path, tracked, root) != md5)
    preset = root / "presets" / f"{lock.parent.name}.yaml"
    params = YAML(typ="safe").load(lock.with_name("params.yaml").read_text())
    if preset.exists() and not contains(params, YAML(typ="safe").load(preset.read_text())):
        changed.append(f"presets/{preset.name}")
    return changed


def contains(params: Any, preset: Any) -> bool:
    """Return whether params.yaml has every value of a preset."""
    if isinstance(params, dict) and isinstance(preset, dict):
        return all(key in params and contains(params[key], value) for key, value in preset.items())
    return bool(params == preset)


def disagreements(
    stage: PipelineStage, entry: dict[str, Any], made: dict[str, str], tracked: set[str], root: Path
) -> Iterator[str]:
    """Yield the differences between a stage and its entry in dvc.lock."""
    if stage.cmd != entry["cmd"]:
        yield f"its command is now `{stage.cmd}`, was `{entry['cmd']}`"
    deps = {dep["path"]: dep["md5"] for dep in entry.get("deps", [])}
    outs = {out["path"]: out["md5"] for out in entry.get("outs", [])}
    declared = [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]
    yield from differing_names("dependency", {dep.def_path for dep in declared}, set(deps))
    yield from differing_names("output", {out.def_path for out in stage.outs}, set(outs))
    for path, digest in {**deps, **outs}.items():
        if path in deps and path in made and made[path] != digest:
            yield f"{path} is not the output of the stage before"
        now = digest_tracked(path, tracked, root)
        if now is not None and now != digest:
            yield f"{path} has changed since"
    yield from changed_parameters(stage, entry)


def differing_names(what: str, declared: set[str], locked: set[str]) -> Iterator[str]:
    """Yield the paths that are only in dvc.yaml or only in dvc.lock."""
    yield from (f"{what} {path} is declared and not in dvc.lock" for path in sorted(declared - locked))
    yield from (f"{what} {path} is in dvc.lock and no longer declared" for path in sorted(locked - declared))


def changed_parameters(stage: PipelineStage, entry: dict[str, Any]) -> Iterator[str]:
    """Yield the parameters that changed since the stage ran."""
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            locked = entry.get("params", {}).get(dep.def_path, {})
            now = dep.read_params()
            for key in sorted({*locked, *now}):
                if key not in now or key not in locked or locked[key] != now[key]:
                    yield f"{dep.def_path}: {key} has changed since"


def digest_tracked(path: str, tracked: set[str], root: Path) -> str | None:
    """Return DVC's digest of a tracked file or folder; None if git does not track it."""
    if path in tracked:
        return digest(root / path) if (root / path).is_file() else "gone"
    inside = sorted(name for name in tracked if name.startswith(f"{path}/"))
    if not inside or path.startswith("data/"):
        return None
    listing = [{"md5": digest(root / name), "relpath": name[len(path) + 1 :]} for name in inside]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"


def digest(path: Path) -> str:
    """Return the MD5 of a file."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def tracked_files(root: Path) -> set[str]:
    """Return the paths that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    return set(listed.split("\0")) - {""}


if __name__ == "__main__":
    sys.exit(1 if main(ROOT) else 0)
