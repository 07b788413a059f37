"""Describe the state of a working tree: git commit, uncommitted changes, and the hashes of dvc.lock."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

SOURCES: Final = ("src", "pipeline", "dvc.yaml", "pyproject.toml", "requirements.lock")
"""What decides results beside params.yaml and the data. DVC writes dvc.lock and reports, so they are not sources."""


def source_tags(root: Path) -> dict[str, str]:
    """Return the commit that is checked out in `root`, and whether sources and params.yaml differ from it, as tags."""
    commit = git(root, "rev-parse", "HEAD")
    if commit is None:
        return dict.fromkeys(("git.commit", "git.source_dirty", "git.params_dirty"), "unknown")

    def dirty(*paths: str) -> str:
        return str(bool(git(root, "status", "--porcelain", "--untracked-files=all", "--", *paths))).lower()

    return {"git.commit": commit.strip(), "git.source_dirty": dirty(*SOURCES), "git.params_dirty": dirty("params.yaml")}


def locked_outputs(root: Path) -> Mapping[str, str]:
    """Return the hashes of the outputs in `root`'s dvc.lock, by path; empty if it is absent, or DVC is writing it."""
    try:
        stages = YAML(typ="safe").load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
        return {
            output["path"]: str(output["md5"])
            for stage in stages
            for output in stage.get("outs", ())
            if "md5" in output
        }
    except (OSError, ValueError, YAMLError, AttributeError, KeyError, TypeError):
        return {}


def dvc_tags(root: Path, corpus: str) -> dict[str, str]:
    """Return the hashes of a corpus's data in `root`'s dvc.lock, as tags of an MLflow run."""
    hashes = {f"dvc.{path}": md5 for path, md5 in locked_outputs(root).items() if path.startswith(f"data/{corpus}/")}
    return hashes or {"dvc.lock": "absent"}


def git(root: Path, *arguments: str) -> str | None:
    """Return the output of git; None without git, a repository or a commit."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=10, errors="surrogateescape")
    except (OSError, subprocess.SubprocessError):
        return None
