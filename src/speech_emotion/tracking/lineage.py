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

_GIT_SECONDS: Final = 10


@dataclass(frozen=True)
class LockedOutput:
    """An output in dvc.lock: its stage, and its MD5 (which ends in `.dir` for a folder)."""

    stage: str
    md5: str


def source_tags(root: Path) -> dict[str, str]:
    """Return the commit that is checked out in `root`, and whether sources and params.yaml differ from it, as tags."""
    commit = git(root, "rev-parse", "HEAD")
    if commit is None:
        return {
            "git.commit": "unknown: not a git repository, or one without a commit",
            "git.source_dirty": "unknown",
            "git.params_dirty": "unknown",
        }

    def dirty(*paths: str) -> str:
        return str(bool(git(root, "status", "--porcelain", "--untracked-files=all", "--", *paths))).lower()

    return {"git.commit": commit.strip(), "git.source_dirty": dirty(*SOURCES), "git.params_dirty": dirty("params.yaml")}


def locked_outputs(root: Path) -> Mapping[str, LockedOutput]:
    """Read the outputs in `root`'s dvc.lock, by path; empty if it is absent, or DVC is just writing it."""
    try:
        content = YAML(typ="safe").load((root / "dvc.lock").read_text(encoding="utf-8"))
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


def git(root: Path, *arguments: str) -> str | None:
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
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
