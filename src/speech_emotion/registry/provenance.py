"""Check that a package is the output of the commit that is checked out: weights, data and settings."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from speech_emotion.registry.gates import Gate
from speech_emotion.tracking.lineage import git

_LIMIT: Final = "as in HEAD's dvc.lock"


def head_gates(root: Path, corpus: str, package: Path) -> list[Gate]:
    """Compare a registered version's package with HEAD of the repository `root`.

    `head.weights`: the package is, byte for byte, the output of the stage `package`. `head.data`: each stage that
    led to it read what the previous stage wrote. `head.params`: each such stage ran with HEAD's params.yaml.
    """
    lock, params = _committed(root, "dvc.lock"), _committed(root, "params.yaml") or {}
    # DVC keeps stages in dvc.lock that dvc.yaml no longer has
    defined = (_committed(root, "dvc.yaml") or {}).get("stages")
    stages = {
        name: stage for name, stage in ((lock or {}).get("stages") or {}).items() if defined is None or name in defined
    }
    outputs = [(name, output) for name, stage in stages.items() for output in stage.get("outs", ())]
    makers = {output["path"]: (name, str(output.get("md5", ""))) for name, output in outputs}
    path = f"models/{corpus}/package"
    if path not in makers:
        why = "there is no commit with a dvc.lock" if lock is None else f"it has no {path}"
        return [Gate(f"head.{name}", "-", _LIMIT, False, why) for name in ("weights", "data", "params")]
    found, (stage, expected) = folder_md5(package), makers[path]
    chain = list(dict.fromkeys(_upstream(stage, stages, makers)))
    stale = [
        f"{name} read another {dep['path']}"
        for name in chain
        for dep in stages[name].get("deps", ())
        if dep["path"] in makers and makers[dep["path"]][1] != dep.get("md5", "")
    ]
    changed = [
        f"{name} ran with another {key}"
        for name in chain
        for key, value in (stages[name].get("params", {}).get("params.yaml") or {}).items()
        if _at(params, key) != value
    ]
    same = found == expected
    return [
        Gate("head.weights", found[:12], _LIMIT, same, "" if same else f"it has {expected[:12]}"),
        Gate("head.data", "stale" if stale else "current", _LIMIT, not stale, "; ".join(stale[:3])),
        Gate("head.params", "changed" if changed else "equal", _LIMIT, not changed, "; ".join(changed[:3])),
    ]


def folder_md5(folder: Path) -> str:
    """Return the MD5 that DVC gives a folder: that of its list of files, each with its own MD5."""
    files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    listed = [{"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": name} for name, path in files]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def _upstream(stage: str, stages: Mapping[str, Any], makers: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield stage
    for dep in stages[stage].get("deps", ()):
        for path, (maker, _) in makers.items():
            # a stage may depend on a folder that several stages fill
            if maker != stage and f"{path}/".startswith(f"{dep['path']}/"):
                yield from _upstream(maker, stages, makers)


def _at(values: Mapping[str, Any], key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _committed(root: Path, name: str) -> dict[str, Any] | None:
    """Return a YAML file of HEAD; None if there is none."""
    text = git(root, "show", f"HEAD:./{name}")
    try:
        return None if text is None else YAML(typ="safe", pure=True).load(text)
    except (ValueError, YAMLError):
        return None
