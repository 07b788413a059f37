"""Run the whole pipeline on the synthetic demo corpus, in a clone of the working tree.

The clone, .demo/, keeps its data, DVC cache and dvc.lock between calls, so that only what changed runs again. Its runs
and its registered model go to the MLflow database of the repository.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML, YAMLError
from voluptuous import Invalid

from speech_emotion.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
SCRATCH = ROOT / ".scratch"
OWN = {"params.yaml", "dvc.lock"}
"""Files of the clone itself: edits of them in the repository are not copied."""
CODE = ("src", "pipeline", "presets")


def main() -> None:
    """Update the clone, run the pipeline in it, and print the results."""
    started = time.monotonic()
    SCRATCH.mkdir(exist_ok=True)
    try:
        with FileLock(SCRATCH / "demo.lock", timeout=0):
            renew()
            run("speech_emotion", "preset", "demo")
            run("dvc", "repro")
    except Timeout:
        raise UserError("`make demo` is already running in this repository. Wait for it, or stop it.") from None
    report(time.monotonic() - started)


def renew() -> None:
    """Update the clone to the working tree: HEAD and the uncommitted edits."""
    lock = DEMO / "dvc.lock"
    kept = lock.read_bytes() if is_whole(lock) else None
    if not update():
        clone()
    lock.unlink(missing_ok=True)  # HEAD's describes the corpus of the repository
    if kept:
        lock.write_bytes(kept)
    for name in edited():
        source, target = ROOT / name, DEMO / name
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


def clone() -> None:
    """Clone HEAD atomically."""
    shutil.rmtree(DEMO, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix="clone-") as folder:
        fresh = Path(folder) / "demo"
        git("clone", "--quiet", "--local", "--no-tags", str(ROOT), str(fresh))
        fresh.rename(DEMO)


def update() -> bool:
    """Update an existing clone to HEAD; return False if there is none or git fails."""
    if not (DEMO / ".git").is_dir():
        return False
    (DEMO / ".git" / "index.lock").unlink(missing_ok=True)  # left by a killed git
    try:
        git("fetch", "--quiet", "--no-tags", str(ROOT), "HEAD", folder=DEMO)
        git("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD", folder=DEMO)
        git("clean", "--quiet", "--force", "-d", "--", *CODE, folder=DEMO)
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


def run(module: str, *arguments: str) -> None:
    """Run a command in the clone, with the clone's code and the repository's MLflow database."""
    environment = {key: value for key, value in os.environ.items() if key not in {"DVC_ROOT", "TESS_DIR"}}
    environment.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{ROOT / 'mlflow.db'}")
    for name, path in {"PATH": Path(sys.executable).parent, "PYTHONPATH": DEMO / "src"}.items():
        environment[name] = os.pathsep.join([str(path), environment.get(name, "")]).rstrip(os.pathsep)
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=DEMO, env=environment)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal has sent Ctrl-C to DVC too
        raise
    if status:
        raise UserError(
            f"`{module} {' '.join(arguments)}` failed with status {status} in .demo/; see its message above."
        )


def report(seconds: float) -> None:
    """Print the results and what to try next."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table("protocol", "accuracy", "UAR")
    for file in sorted((DEMO / "reports" / "demo" / "protocols").glob("*/metrics.json")):
        mean = json.loads(file.read_text())["mean"]
        table.add_row(file.parent.name, f"{mean['accuracy']:.1%}", f"{mean['uar']:.1%}")
    clip = next(iter(sorted((DEMO / "data" / "demo" / "raw").rglob("*.wav")))).relative_to(ROOT)
    console.print(f"\nThe pipeline ran on the demo corpus in {seconds:.0f} s.", table, sep="\n")
    console.print(
        "These numbers describe synthetic speech: they show that the pipeline works, not how well.\n\n"
        "Three things to try next:\n"
        "  .venv/bin/mlflow ui           runs, curves and the registered model, in a browser\n"
        f"  .venv/bin/speech-emotion predict --model .demo/models/demo/package {clip}\n"
        "  make tess                     the same pipeline on real recordings\n\n"
        "The registered versions of the demo model:\n"
        "  .venv/bin/speech-emotion registry --corpus demo"
    )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
