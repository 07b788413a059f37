"""Takes the working tree; gives the whole pipeline's run on the demo corpus, in a clone of it, and says what was made.

The clone, .demo/, keeps its data, its DVC cache and its dvc.lock from one call to the next, so that only what changed
is done again. Its runs and its registered model go to the MLflow of the repository around it.
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
"""Files that are the clone's own affair: no edit of them in the root reaches it."""
CODE = ("src", "pipeline", "presets")
SIDE_BY_SIDE = (
    (
        ("train@random", "evaluate@random", "train@full", "evaluate@full"),
        ("train@word", "evaluate@word", "train@speaker", "evaluate@speaker"),
    ),
    (("baselines", "compare", "survey"), ("portray", "robustness", "explain")),
)
"""Stages for two processes of DVC at the same time, and then for two more; before the first, what they need is made.

`dvc repro` takes a stage after the other, and most of them use one core for most of their time.
"""


def main() -> None:
    """Renew the clone, run the pipeline in it, report."""
    started = time.monotonic()
    SCRATCH.mkdir(exist_ok=True)
    try:
        with FileLock(SCRATCH / "demo.lock", timeout=0):
            renew()
            run("speech_emotion", "preset", "demo")
            if not (DEMO / "models" / "demo" / "package").exists():  # also where a first run was cut off
                run("dvc", "repro", "featurize", "split")
                for groups in SIDE_BY_SIDE:
                    run_all(*(("dvc", "--wait-for-lock", "repro", "--single-item", *group) for group in groups))
            run("dvc", "repro")
    except Timeout:
        raise UserError("`make demo` is already running in this repository. Wait for it, or end it.") from None
    report(time.monotonic() - started)


def renew() -> None:
    """Make the clone what the working tree is: HEAD, and the edits on top of it."""
    lock = DEMO / "dvc.lock"
    kept = lock.read_bytes() if is_whole(lock) else None
    if not update():
        clone()
    lock.unlink(missing_ok=True)  # HEAD's is about the corpus of the root
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
    """Say whether DVC can read its lock: it writes it in place, and killed meanwhile, leaves a part of it."""
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(lock))
    except (OSError, YAMLError, Invalid):
        return False
    return True


def clone() -> None:
    """Clone HEAD, whole or not at all."""
    shutil.rmtree(DEMO, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix="clone-") as folder:
        fresh = Path(folder) / "demo"
        git("clone", "--quiet", "--local", "--no-tags", str(ROOT), str(fresh))
        fresh.rename(DEMO)


def update() -> bool:
    """Bring an existing clone to HEAD; False where there is none that can be brought there."""
    if not (DEMO / ".git").is_dir():
        return False
    (DEMO / ".git" / "index.lock").unlink(missing_ok=True)  # what a killed git leaves
    try:
        git("fetch", "--quiet", "--no-tags", str(ROOT), "HEAD", folder=DEMO)
        git("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD", folder=DEMO)
        git("clean", "--quiet", "--force", "-d", "--", *CODE, folder=DEMO)
    except UserError:
        return False
    return True


def edited() -> list[str]:
    """Return the paths of code and settings in which the working tree differs from HEAD."""
    tracked = git("diff", "--name-only", "-z", "HEAD")
    new = git("ls-files", "--others", "--exclude-standard", "-z", "--", *CODE)
    return sorted({name for name in (tracked + new).split("\0") if name} - OWN)


def git(*arguments: str, folder: Path = ROOT) -> str:
    """Run git in a folder, whatever repository the environment speaks of, and return what it prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed in {folder}: {done.stderr.strip()}")
    return done.stdout


def run(module: str, *arguments: str) -> None:
    """Run one of the environment's commands in the clone, with the clone's code and the root's MLflow."""
    run_all((module, *arguments))


def run_all(*commands: tuple[str, ...]) -> None:
    """Run commands at the same time, all of them to their ends."""
    environment = {key: value for key, value in os.environ.items() if key not in {"DVC_ROOT", "TESS_DIR"}}
    environment.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{ROOT / 'mlflow.db'}")
    in_front = {"PATH": Path(sys.executable).parent, "PYTHONPATH": DEMO / "src"}
    for name, place in in_front.items():
        environment[name] = os.pathsep.join([str(place), environment.get(name, "")]).rstrip(os.pathsep)
    running = [subprocess.Popen([sys.executable, "-m", *command], cwd=DEMO, env=environment) for command in commands]
    try:
        ended = [process.wait() for process in running]
    except KeyboardInterrupt:
        # the terminal has told them too, and none is to work on behind
        for process in running:
            process.wait()
        raise
    for command, status in zip(commands, ended, strict=True):
        if status:
            raise UserError(f"`{' '.join(command)}` ended with status {status} in .demo/; its message is above.")


def report(seconds: float) -> None:
    """Print what was made, and what to try next."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table("protocol", "accuracy", "UAR")
    for file in sorted((DEMO / "reports" / "demo" / "protocols").glob("*/metrics.json")):
        mean = json.loads(file.read_text())["mean"]
        table.add_row(file.parent.name, f"{mean['accuracy']:.1%}", f"{mean['uar']:.1%}")
    clip = next(iter(sorted((DEMO / "data" / "demo" / "raw").rglob("*.wav")))).relative_to(ROOT)
    console.print(f"\nThe pipeline ran on the demo corpus in {seconds:.0f} s.", table, sep="\n")
    console.print(
        "The figures are about a speech synthesiser; they show that everything works, not how well.\n\n"
        "Three things to try next:\n"
        "  .venv/bin/mlflow ui           runs, curves and the registered model, in a browser\n"
        f"  .venv/bin/speech-emotion predict --model .demo/models/demo/package {clip}\n"
        "  make tess                     the same pipeline on real recordings\n\n"
        "The registry is asked for it by its name:\n"
        "  .venv/bin/speech-emotion registry --corpus demo"
    )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
