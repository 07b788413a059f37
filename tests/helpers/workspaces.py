"""Clones of the repository in which tests run the real pipeline."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent.parent
GUARD = Path(__file__).resolve().parent.parent / "guard"
"""Its sitecustomize.py refuses and logs every connection to another machine."""

OWN = {"params.yaml", "dvc.lock"}
"""Files that a workspace sets for itself."""

STAGES: Mapping[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
PIPELINE = tuple(STAGES)


@dataclass(frozen=True)
class Workspace:
    """A clone, and the environment of its commands; `prefix` starts a command, e.g. in a network namespace."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command that must end with a status, and return its output."""
        done = subprocess.run(
            [*self.prefix, *executable(command)],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout

    @contextmanager
    def started(self, *command: str) -> Iterator[psutil.Popen]:
        """Start a command; kill it and its descendants at the end of the block."""
        with open(self._log, "wb") as log:
            process = psutil.Popen(
                executable(command),
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                yield process
            finally:
                kill(process, *descendants(process))
                process.wait()

    def started_log(self) -> str:
        """Return the output of the command that was started last."""
        return self._log.read_text()

    def outs(self) -> dict[str, str]:
        """Return the hash of every output in dvc.lock."""
        stages = self.lock()["stages"].values()
        return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", [])}

    def lock(self) -> dict[str, Any]:
        """Return dvc.lock."""
        content: dict[str, Any] = YAML(typ="safe").load((self.folder / "dvc.lock").read_text())
        return content

    def forget(self, *stages: str) -> None:
        """Make DVC believe that stages have never run."""
        content = self.lock()
        for stage in stages:
            content["stages"].pop(stage, None)
        with open(self.folder / "dvc.lock", "w") as file:
            YAML().dump(content, file)
        shutil.rmtree(self.folder / ".dvc" / "cache" / "runs", ignore_errors=True)

    def half_written(self) -> list[Path]:
        """Return the unfinished files among the outputs."""
        outputs = [self.folder / name for name in ("data", "models", "reports", "mlruns")]
        return [path for output in outputs for path in output.rglob("*.partial")]

    def processes(self) -> list[psutil.Process]:
        """Return the processes whose working folder is in the clone."""
        return [process for process in psutil.process_iter() if works_in(process, self.folder)]

    def copy(self, folder: Path) -> "Workspace":
        """Return a copy with a copy of the tracking database, without checkpoints."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(".scratch"))
        database = Path(self.environment["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
        shutil.copy(database, folder / "mlflow.db")
        environment = {
            **self.environment,
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "PYTHONPATH": str(folder / "src"),
        }
        return replace(self, folder=folder, environment=environment, prefix=())

    @property
    def _log(self) -> Path:
        return self.folder / ".dvc" / "tmp" / "started.log"

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return {**inherited, "PYTHONPATH": str(self.folder / "src"), **self.environment, "PATH": path}


@dataclass(frozen=True)
class DemoRun:
    """One undisturbed `make demo` in a new clone, `home`, without a network; the pipeline ran in its clone `demo`."""

    home: Workspace
    demo: Workspace
    output: str
    seconds: dict[str, float]
    """Of each stage."""
    calls: Path
    """Log of connections to other machines."""
    lock: Path
    """Held while the demo is changed or copied."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other test processes from the demo while it is changed."""
        with FileLock(self.lock):
            yield

    def copy(self, folder: Path) -> Workspace:
        """Return a copy of the demo."""
        with self.held():
            return self.demo.copy(folder)


def fresh_clone(folder: Path) -> Path:
    """Clone the repository, with the uncommitted edits."""
    git("clone", "--quiet", "--no-tags", f"file://{ROOT}", str(folder), at=ROOT)
    changed = git("diff", "--name-only", "-z", "HEAD", at=ROOT)
    new = git("ls-files", "--others", "--exclude-standard", "-z", at=ROOT)
    for name in {name for name in (changed + new).split("\0") if name} - OWN:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    commit(folder)
    return folder


def offline_workspace(folder: Path) -> Workspace:
    """Return a workspace without a network and with an empty home folder."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(GUARD)]),
        "NETWORK_GUARD_LOG": str(folder.parent / "calls.log"),
    }
    return Workspace(folder, environment, no_network())


def no_network() -> tuple[str, ...]:
    """Return a prefix that runs a command without a network; empty where this user may not do so."""
    unshare = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--net", "--map-root-user")
    prefix = (*unshare, sys.executable, str(GUARD / "offline.py"))
    try:
        works = subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        works = False
    return prefix if works else ()  # the guard on PYTHONPATH refuses anyway


def shrink(folder: Path) -> None:
    """Make the demo of a clone as small as possible."""
    small: dict[str, dict[str, Any]] = {
        "evaluate": {"bootstrap": {"resamples": 100}},
        "robustness": {"utterances": 10},
        "explain": {"utterances": 2, "folds": 2},
        "baselines": {"shuffles": 2, "reference_epochs": 1},
        "reference_data": {"halvings": 20},
    }
    for name in ("demo", "reference"):
        preset = folder / "presets" / f"{name}.yaml"
        content = YAML(typ="safe").load(preset.read_text())
        content["train"] |= {"epochs": 2, "batch_size": 32}
        content["train"]["network"] |= {"lstm": [8], "dense": [8]}
        if name == "demo":
            content |= small
        with open(preset, "w") as file:
            YAML().dump(content, file)
    commit(folder)


def commit(folder: Path) -> None:
    """Commit all changes in a folder."""
    git("add", "--all", at=folder)
    author = ("-c", "user.name=tests", "-c", "user.email=tests@example.org")
    git(*author, "commit", "--quiet", "--allow-empty", "--message", "by the tests", at=folder)


def git(*arguments: str, at: Path) -> str:
    """Run git in a folder and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.check_output(["git", *arguments], cwd=at, env=environment, text=True)


def executable(command: tuple[str, ...]) -> list[str]:
    """Return a command run by this Python."""
    module = [] if command[0] == "python" else ["-m", command[0].replace("-", "_")]
    return [sys.executable, *module, *command[1:]]


def stage_process(dvc: psutil.Popen, stage: str) -> psutil.Process | None:
    """Return the process of a stage below a running DVC, or None."""
    return next((process for name, process in running_stages(dvc) if name == stage), None)


def running_stages(process: psutil.Process) -> Iterator[tuple[str, psutil.Process]]:
    """Yield name and process of each stage below a process."""
    for one in descendants(process):
        try:
            arguments = one.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if len(arguments) > 1 and arguments[1].startswith("pipeline/"):
            yield Path(arguments[1]).stem, one


def stages_run(output: str) -> list[str]:
    """Return the stages that DVC started, in order."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]


def descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def kill(*processes: psutil.Process) -> None:
    """Send SIGKILL to processes."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False


class StageClock:
    """Measure how long each stage below this process runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "StageClock":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            for name, process in running_stages(psutil.Process()):
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    self.seconds[name] = time.time() - process.create_time()
