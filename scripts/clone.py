"""Run the pipeline in a clone of the working tree, so that params.yaml and dvc.lock of the repository stay as they are.

A clone, such as .demo/, keeps its data, DVC cache and dvc.lock between calls, so that only what changed runs again. Its
runs and its registered model go to the MLflow database of the repository.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from filelock import FileLock, Timeout
from ruamel.yaml import YAML, YAMLError
from voluptuous import Invalid

from speech_emotion.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = ROOT / ".scratch"
OWN = {"params.yaml", "dvc.lock"}
"""Files of the clone itself: edits of them in the repository are not copied."""
CODE = ("src", "pipeline", "presets")


@contextmanager
def updated(name: str) -> Iterator[Path]:
    """Give the clone `.<name>`, updated to the working tree (HEAD and the uncommitted edits) and locked."""
    SCRATCH.mkdir(exist_ok=True)
    try:
        with FileLock(SCRATCH / f"{name}.lock", timeout=0):
            renew(ROOT / f".{name}")
            yield ROOT / f".{name}"
    except Timeout:
        raise UserError(f"`make {name}` is already running in this repository. Wait for it, or stop it.") from None


def renew(folder: Path) -> None:
    """Update a clone, or make it; it keeps its dvc.lock."""
    lock = folder / "dvc.lock"
    kept = lock.read_bytes() if is_whole(lock) else None
    if not update(folder):
        clone(folder)
    lock.unlink(missing_ok=True)  # HEAD's describes the corpus of the repository
    if kept:
        lock.write_bytes(kept)
    for name in edited():
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        else:
            target.unlink(missing_ok=True)


def is_whole(lock: Path) -> bool:
    """Return whether DVC can read its lock: DVC writes it in place, and a kill leaves part of it."""
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(lock))
    except (OSError, YAMLError, Invalid):
        return False
    return True


def clone(folder: Path) -> None:
    """Clone HEAD atomically."""
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix="clone-") as temporary:
        fresh = Path(temporary) / "clone"
        git("clone", "--quiet", "--local", "--no-tags", str(ROOT), str(fresh))
        fresh.rename(folder)


def update(folder: Path) -> bool:
    """Update an existing clone to HEAD; return False if there is none or git fails."""
    if not (folder / ".git").is_dir():
        return False
    (folder / ".git" / "index.lock").unlink(missing_ok=True)  # left by a killed git
    try:
        git("fetch", "--quiet", "--no-tags", str(ROOT), "HEAD", folder=folder)
        git("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD", folder=folder)
        git("clean", "--quiet", "--force", "-d", "--", *CODE, folder=folder)
    except UserError:
        return False
    return True


def edited() -> list[str]:
    """Return the paths of code and settings that differ from HEAD."""
    tracked = git("diff", "--name-only", "-z", "HEAD")
    new = git("ls-files", "--others", "--exclude-standard", "-z", "--", *CODE)
    return sorted({name for name in (tracked + new).split("\0") if name} - OWN)


def git(*arguments: str, folder: Path = ROOT) -> str:
    """Run git in a folder, ignoring GIT_* variables, and return its output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed in {folder}: {done.stderr.strip()}")
    return done.stdout


def run(folder: Path, module: str, *arguments: str, variables: Mapping[str, str | None]) -> None:
    """Run a command in a clone, with its code and the repository's MLflow database; None unsets a variable."""
    changed = {"DVC_ROOT": None, **variables}
    environment = {key: value for key, value in os.environ.items() if key not in changed}
    environment |= {key: value for key, value in changed.items() if value is not None}
    environment.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{ROOT / 'mlflow.db'}")
    for name, path in {"PATH": Path(sys.executable).parent, "PYTHONPATH": folder / "src"}.items():
        environment[name] = os.pathsep.join([str(path), environment.get(name, "")]).rstrip(os.pathsep)
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=folder, env=environment)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal has sent Ctrl-C to DVC too
        raise
    if status:
        raise UserError(
            f"`{module} {' '.join(arguments)}` failed with status {status} in {folder.name}/; see its message above."
        )
