"""Takes a package and a git repository; gives gates: whether its bytes, data and settings are those of HEAD."""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from speech_emotion.registry.gates import Gate

_GIT_SECONDS: Final = 10
_LIMIT: Final = "as in HEAD's dvc.lock"


def of_head(root: Path, corpus: str, package: Path) -> list[Gate]:
    """Hold a package against the commit that is checked out.

    Parameters
    ----------
    root : Path
        The repository.
    corpus : str
        It names the package's output.
    package : Path
        A registered version's package, as a folder.

    Returns
    -------
    list of Gate
        `head.weights`: the package, byte for byte, is the output of the stage `package`. `head.data`: what each stage
        on the way to it read is what the stage before had written. `head.params`: each stage's settings are those of
        HEAD's params.yaml.
    """
    lock, params = _committed(root, "dvc.lock"), _committed(root, "params.yaml")
    stages = _defined((lock or {}).get("stages") or {}, root)
    output = f"models/{corpus}/package"
    outputs = [(name, out) for name, stage in stages.items() for out in stage.get("outs", ())]
    makers = {out["path"]: (name, str(out.get("md5", ""))) for name, out in outputs}
    if output not in makers:
        why = "there is no commit with a dvc.lock" if lock is None else f"it has no {output}"
        return [Gate(f"head.{name}", "-", _LIMIT, False, why) for name in ("weights", "data", "params")]
    found, (stage, wanted) = folder_md5(package), makers[output]
    chain = list(dict.fromkeys(_upstream(stage, stages, makers)))
    stale = [
        f"{name} read another {dep['path']}"
        for name in chain
        for dep in stages[name].get("deps", ())
        if dep["path"] in makers and makers[dep["path"]][1] != dep.get("md5", "")
    ]
    other = [
        f"{name} ran with another {key}"
        for name in chain
        for key, value in (stages[name].get("params", {}).get("params.yaml") or {}).items()
        if _at(params or {}, key) != value
    ]
    return [
        Gate("head.weights", found[:12], _LIMIT, found == wanted, "" if found == wanted else f"it has {wanted[:12]}"),
        Gate("head.data", "stale" if stale else "whole", _LIMIT, not stale, "; ".join(stale[:3])),
        Gate("head.params", "other" if other else "the same", _LIMIT, not other, "; ".join(other[:3])),
    ]


def folder_md5(folder: Path) -> str:
    """Return the MD5 that DVC gives a folder: that of its list of files, each with its own."""
    files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    listed = [{"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": name} for name, path in files]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def _defined(stages: Mapping[str, Any], root: Path) -> Mapping[str, Any]:
    """Return those that HEAD's dvc.yaml still has: DVC leaves what it once ran in dvc.lock, an old protocol's too."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo(str(root), rev="HEAD") as repo:
            known = {getattr(one, "name", None) for one in repo.index.stages if one.path_in_repo == "dvc.yaml"}
    except (DvcException, SCMError):
        return stages  # whose definitions cannot be read: dvc.lock alone speaks
    return {name: stage for name, stage in stages.items() if name in known}


def _upstream(stage: str, stages: Mapping[str, Any], makers: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield stage
    for dep in stages[stage].get("deps", ()):
        # a stage may depend on a folder that others fill, or on one file of another's folder
        for path, (maker, _) in makers.items():
            if maker != stage and (path == dep["path"] or f"{path}/".startswith(f"{dep['path']}/")):
                yield from _upstream(maker, stages, makers)


def _at(values: Mapping[str, Any], key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _committed(root: Path, name: str) -> dict[str, Any] | None:
    """Return a YAML file as HEAD has it; None: there is none, or no git."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "show", f"HEAD:./{name}"],
            cwd=root,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_GIT_SECONDS,
        )
        if done.returncode != 0:
            return None
        content: dict[str, Any] | None = YAML(typ="safe", pure=True).load(done.stdout.decode())
    except (OSError, subprocess.TimeoutExpired, ValueError, YAMLError):
        return None
    return content
