"""Takes a working tree; gives what leads back to its state: commit, uncommitted changes, DVC stages and hashes."""

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

SOURCES: Final = ("src", "pipeline", "dvc.yaml", "pyproject.toml", "requirements.lock")
"""What decides results beside params.yaml and the data; dvc.lock and reports, which DVC writes, are no source."""

PARAMS: Final = "params.yaml"
LOCK: Final = "dvc.lock"

_GIT_SECONDS: Final = 10
_LOOKS: Final = 5
_LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True)
class SourceState:
    """The source that is checked out.

    Attributes
    ----------
    commit : str
        Its hash, or why there is none to be had.
    source_dirty, params_dirty : bool or None
        Whether source, or params.yaml, differ from the commit; None: unknown, without a commit.
    patch : str
        What `git apply` makes the working tree from the commit with; empty where nothing differs.
    """

    commit: str
    source_dirty: bool | None
    params_dirty: bool | None
    patch: str

    @property
    def tags(self) -> dict[str, str]:
        """The state as tags of an MLflow run or version."""
        dirty = {"git.source_dirty": self.source_dirty, "git.params_dirty": self.params_dirty}
        return {"git.commit": self.commit} | {
            name: "unknown" if value is None else str(value).lower() for name, value in dirty.items()
        }


@dataclass(frozen=True)
class Locked:
    """What dvc.lock says of one output: the stage that made it, and its MD5 (a folder's ends in `.dir`)."""

    stage: str
    md5: str


def source_state(root: Path) -> SourceState:
    """Ask git for the commit that is checked out in `root`, and for what differs from it."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return SourceState("unknown: not a git repository, or one without a commit", None, None, "")
    params, source = _git_changes(root, PARAMS), _git_changes(root, *SOURCES)
    return SourceState(commit.strip(), bool(source), bool(params), source + params)


def locked_outputs(root: Path) -> Mapping[str, Locked]:
    """Read the outputs in `root`'s dvc.lock, by path; there are none where it is absent or unreadable.

    DVC writes that file in place: one that another DVC is at this moment is read again. Where what there is of it so
    far looks whole, outputs are missing: a training's run then has their hashes from `publish`.
    """
    for _ in range(_LOOKS):
        try:
            content = YAML(typ="safe").load((root / LOCK).read_text(encoding="utf-8"))
            return {
                output["path"]: Locked(name, str(output["md5"]))
                for name, stage in (content["stages"] or {}).items()
                for output in stage.get("outs") or ()
                if "md5" in output
            }
        except OSError:
            return {}
        except (ValueError, YAMLError, AttributeError, KeyError, TypeError):
            time.sleep(_LOOK_SECONDS)
    return {}


def dvc_tags(locked: Mapping[str, Locked], *, corpus: str, protocol: str, trained: bool = True) -> dict[str, str]:
    """Return a training's stage and the hashes of its data and model, as tags of an MLflow run.

    Parameters
    ----------
    locked : mapping of str to Locked
        As `locked_outputs` gives it.
    corpus, protocol : str
        They name the outputs of the stages.
    trained : bool
        Whether the training is done; before that, dvc.lock names the model of the one before, which is left out.
    """
    model = f"models/{corpus}/protocols/{protocol}"
    outputs = {
        "dvc.raw": f"data/{corpus}/raw",
        "dvc.manifest": f"data/{corpus}/manifest",
        "dvc.features": f"data/{corpus}/features",
        "dvc.split": f"data/{corpus}/splits",
        "dvc.model": model,
    }
    tags = {}
    for tag, path in outputs.items():
        # a stage may list a folder, or the one file in it that another stage reads
        found = locked.get(path) or locked.get(f"{path}/{protocol}.csv") or locked.get(f"{path}/manifest.csv")
        if found is not None and (trained or path != model):
            tags[tag] = found.md5
    if not locked:
        tags["dvc.lock"] = "absent"
    stage = os.environ.get("DVC_STAGE") if model not in locked else locked[model].stage
    return tags | ({"dvc.stage": stage} if stage else {})


def _git_changes(root: Path, *paths: str) -> str:
    """Return the difference between the working tree and HEAD, in which files that git does not track are new."""
    changed = _git(root, "diff", "--binary", "--no-ext-diff", "--relative", "HEAD", "--", *paths) or ""
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *paths) or ""
    new = ["diff", "--binary", "--no-ext-diff", "--no-index", "--", os.devnull]
    return changed + "".join(_git(root, *new, name) or "" for name in untracked.split("\0") if name)


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git prints; None where it cannot answer: no git, no repository, no commit."""
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
    # 1 is how `git diff --no-index` says that there is a difference
    return done.stdout if done.returncode in (0, 1) else None
