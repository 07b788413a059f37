"""Clones of the repository in which tests run the real pipeline, and what they look at there."""

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
"""Holds the sitecustomize.py that refuses, and writes down, every way out of this machine."""

OWN = {"params.yaml", "dvc.lock"}
"""What a workspace sets for itself."""

STAGES: Mapping[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
PIPELINE = tuple(STAGES)


@dataclass(frozen=True)
class Workspace:
    """A clone, and the environment that commands in it are run with."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    """What a command is started by, such as a network namespace of its own."""

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command to its end and return what it prints; its status has to be the expected one."""
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
        """Start a command; what is left of it and of its descendants at the end of the block is ended."""
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
        """Return what the command that was started last has printed."""
        return self._log.read_text()

    def outs(self) -> dict[str, str]:
        """Return the hash of every output, as dvc.lock has it."""
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
        """Return the processes that work in the folder."""
        return [process for process in psutil.process_iter() if works_in(process, self.folder)]

    def copy(self, folder: Path) -> "Workspace":
        """Return a copy with a tracking database of its own, in which all is known that was known here.

        What a stage keeps for the case that it is killed is left behind, so that it has to be done anew.
        """
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
    """One undisturbed `make demo` in a newcomer's clone, cut off from every network.

    Attributes
    ----------
    home : Workspace
        The clone that the newcomer made, with the environment in which all was run.
    demo : Workspace
        The clone inside it, in which the pipeline ran.
    output : str
        What was printed.
    seconds : dict
        How long each stage took.
    calls : Path
        Where each try to reach another machine would have been written down.
    lock : Path
        Held while the demo is changed, or copied: several processes of tests share it.
    """

    home: Workspace
    demo: Workspace
    output: str
    seconds: dict[str, float]
    calls: Path
    lock: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from the demo, while it is not what it was."""
        with FileLock(self.lock):
            yield

    def copy(self, folder: Path) -> Workspace:
        """Return a copy of the demo, whole."""
        with self.held():
            return self.demo.copy(folder)


def fresh_clone(folder: Path) -> Path:
    """Clone the repository as a newcomer would, with the edits that are not committed yet on top."""
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
    """Name a workspace from which no other machine can be reached, with an empty home."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(GUARD)]),
        "NETWORK_GUARD_LOG": str(folder.parent / "calls.log"),
    }
    return Workspace(folder, environment, no_network())


def no_network() -> tuple[str, ...]:
    """Return what starts a command without a network; nothing, where the system does not let this user do so."""
    unshare = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--net", "--map-root-user")
    prefix = (*unshare, sys.executable, str(GUARD / "offline.py"))
    try:
        works = subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        works = False
    return prefix if works else ()  # the guard on PYTHONPATH refuses all the same


def shrink(folder: Path) -> None:
    """Make a clone's demo as small as it can be and still train, be killed, and go on."""
    small: dict[str, dict[str, Any]] = {
        "evaluate": {"bootstrap": {"resamples": 100}},
        "robustness": {"utterances": 10},
        "explain": {"utterances": 2, "folds": 2},
        "baselines": {"shuffles": 2, "reference_epochs": 1},
        "survey": {"halvings": 20},
    }
    for name in ("demo", "reference"):
        preset = folder / "presets" / f"{name}.yaml"
        content = YAML(typ="safe").load(preset.read_text())
        content["train"] |= {"epochs": 3, "batch_size": 32}
        content["train"]["network"] |= {"lstm": [8], "dense": [8]}
        if name == "demo":
            content |= small
        with open(preset, "w") as file:
            YAML().dump(content, file)
    commit(folder)


def commit(folder: Path) -> None:
    """Commit all that is new or different in a folder."""
    git("add", "--all", at=folder)
    author = ("-c", "user.name=tests", "-c", "user.email=tests@example.org")
    git(*author, "commit", "--quiet", "--allow-empty", "--message", "by the tests", at=folder)


def git(*arguments: str, at: Path) -> str:
    """Run git in a folder and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", *arguments], cwd=at, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def executable(command: tuple[str, ...]) -> list[str]:
    """Return the command as run by this very Python."""
    module = [] if command[0] == "python" else ["-m", command[0].replace("-", "_")]
    return [sys.executable, *module, *command[1:]]


def stage_process(dvc: psutil.Popen, stage: str) -> psutil.Process | None:
    """Return the process of a stage's script below a running DVC, once there is one."""
    return next((process for name, process in running_stages(dvc) if name == stage), None)


def running_stages(process: psutil.Process) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the name and the process of each stage that runs below a process."""
    for one in descendants(process):
        try:
            arguments = one.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if len(arguments) > 1 and arguments[1].startswith("pipeline/"):
            yield Path(arguments[1]).stem, one


def stages_run(output: str) -> list[str]:
    """Return the stages that DVC says it has begun, in their order."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]


def descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def kill(*processes: psutil.Process) -> None:
    """kill -9, all of them."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False


class StageClock:
    """Watches which stages run below this process, and for how long each does."""

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
