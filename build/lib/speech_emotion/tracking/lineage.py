"""Describe the state of a working tree: git commit, uncommitted changes, and the hashes of dvc.lock."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

SOURCES: Final = ("src", "pipeline", "dvc.yaml", "pyproject.toml", "requirements.lock")
"""What decides results beside params.yaml and the data. DVC writes dvc.lock and reports, so they are not sources."""

PARAMS: Final = "params.yaml"
LOCK: Final = "dvc.lock"

_GIT_SECONDS: Final = 10


@dataclass(frozen=True)
class SourceState:
    """The source that is checked out.

    `commit` is a hash, or says why there is none. The dirty flags tell whether sources or params.yaml differ from the
    commit (None: unknown). `patch` turns the commit into the working tree with `git apply`.
    """

    commit: str
    source_dirty: bool | None
    params_dirty: bool | None
    patch: str

    @property
    def tags(self) -> dict[str, str]:
        """The state as tags of an MLflow run."""
        dirty = {"git.source_dirty": self.source_dirty, "git.params_dirty": self.params_dirty}
        return {"git.commit": self.commit} | {
            name: "unknown" if value is None else str(value).lower() for name, value in dirty.items()
        }


@dataclass(frozen=True)
class LockedOutput:
    """An output in dvc.lock: its stage, and its MD5 (which ends in `.dir` for a folder)."""

    stage: str
    md5: str


def source_state(root: Path) -> SourceState:
    """Ask git for the commit that is checked out in `root`, and for the changes since."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return SourceState("unknown: not a git repository, or one without a commit", None, None, "")
    params, source = _git_changes(root, PARAMS), _git_changes(root, *SOURCES)
    return SourceState(commit.strip(), bool(source), bool(params), source + params)


def locked_outputs(root: Path) -> Mapping[str, LockedOutput]:
    """Read the outputs in `root`'s dvc.lock, by path; empty if it is absent, or DVC is just writing it."""
    try:
        content = YAML(typ="safe").load((root / LOCK).read_text(encoding="utf-8"))
        return {
            output["path"]: LockedOutput(name, str(output["md5"]))
            for name, stage in (content["stages"] or {}).items()
            for output in stage.get("outs") or ()
            if "md5" in output
        }
    except (OSError, ValueError, YAMLError, AttributeError, KeyError, TypeError):
        return {}


def dvc_tags(locked: Mapping[str, LockedOutput], *, corpus: str, trained: bool = True) -> dict[str, str]:
    """Return the stage of the trainings and the hashes of their inputs and models, as tags of an MLflow run.

    Before a training is done (`trained` is False), dvc.lock names the models of the previous one: they are left out.
    """
    if not locked:
        return {"dvc.lock": "absent"}
    models = f"models/{corpus}/protocols"
    outputs = {
        "dvc.raw": f"data/{corpus}/raw",
        "dvc.manifest": f"data/{corpus}/manifest",
        "dvc.features": f"data/{corpus}/features",
        "dvc.split": f"data/{corpus}/splits",
        "dvc.model": models,
    }
    tags = {}
    for tag, path in outputs.items():
        # a stage lists a folder, or the one file in it that another stage reads
        md5 = next((found.md5 for name, found in locked.items() if name == path or name.startswith(f"{path}/")), None)
        if md5 is not None and (trained or path != models):
            tags[tag] = md5
    stage = os.environ.get("DVC_STAGE") if models not in locked else locked[models].stage
    return tags | ({"dvc.stage": stage} if stage else {})


def _git_changes(root: Path, *paths: str) -> str:
    """Return the difference between the working tree and HEAD; untracked files count as new."""
    changed = _git(root, "diff", "--binary", "--no-ext-diff", "--relative", "HEAD", "--", *paths) or ""
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *paths) or ""
    new = ["diff", "--binary", "--no-ext-diff", "--no-index", "--", os.devnull]
    return changed + "".join(_git(root, *new, name) or "" for name in untracked.split("\0") if name)


def _git(root: Path, *arguments: str) -> str | None:
    """Return the output of git; None without git, a repository or a commit."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=root,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # `git diff --no-index` ends with 1 if there is a difference
    return done.stdout if done.returncode in (0, 1) else None
