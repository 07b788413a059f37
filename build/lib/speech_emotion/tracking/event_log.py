"""Log the events of a training to disk, so that MLflow can receive them later.

A log is a file of JSON lines: a header, one line per epoch, and the end. Each line is written before anything is sent
to MLflow. What a dead or hanging server did not accept, `registry.publish` sends from here.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias

import psutil

from speech_emotion.core.process import SCRATCH
from speech_emotion.tracking.lineage import SourceState, dvc_tags, locked_outputs, source_state

LOGS: Final = SCRATCH / "tracking"

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class TrainingInfo:
    """Describe a training: the name, parameters and tags of its MLflow run.

    `digest` covers everything that decides the weights, `params` has dotted keys, and `lineage` holds the digests of
    the inputs.
    """

    corpus: str
    protocol: str
    fold: str
    digest: str
    params: Mapping[str, Any]
    lineage: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the run."""
        return f"{self.protocol}/{self.fold}"


@dataclass(frozen=True)
class LogEntry:
    """One event: the metrics of a step, or the end with its status. `time` is in milliseconds since 1970."""

    time: int
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    status: Status | None = None
    reason: str = ""


@dataclass(frozen=True)
class LogHeader:
    """What is known when a training starts; `tags` are the hashes of dvc.lock."""

    training: TrainingInfo
    source: SourceState
    tags: Mapping[str, str]
    time: int


class EventLog:
    """Read and extend the event log of a training. A line that a kill cut short is skipped.

    `header` is None if the process was killed before it wrote anything, `process` is the last writer, and `sent_to` the
    tracking URI that has received everything, or empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = _read_lines(path)
        try:
            self.header = next((_header(line) for line in lines if "training" in line), None)
            self.entries = [LogEntry(**line) for line in lines if "step" in line]
        except TypeError:
            # written by another version of this software
            self.header, self.entries = None, []
        self.process: str = next((line["process"] for line in reversed(lines) if "process" in line), "")
        self.sent_to: str = lines[-1].get("sent_to", "") if lines else ""

    @property
    def key(self) -> str:
        """The value of the tag that links the run to this log."""
        return self.path.stem

    @property
    def end(self) -> LogEntry | None:
        """The end of the training; None: it is running, or its process was killed."""
        return self.entries[-1] if self.entries and self.entries[-1].status else None

    @classmethod
    def all(cls, folder: Path = LOGS) -> list[Self]:
        """Return the logs of a folder that have a header."""
        logs = [cls(path) for path in sorted(folder.glob("*.jsonl"))]
        return [log for log in logs if log.header is not None]

    @classmethod
    def open(cls, training: TrainingInfo, folder: Path = LOGS) -> Self:
        """Continue the log of the same training if that did not finish, else start one."""
        for log in cls.all(folder):
            assert log.header is not None
            finished = log.end is not None and log.end.status == "FINISHED"
            if log.header.training.digest == training.digest and not finished and is_gone(log.process):
                log._write({"process": process_name()})
                return cls(log.path)
        folder.mkdir(parents=True, exist_ok=True)
        log = cls(folder / f"{training.digest[:12]}-{uuid.uuid4().hex[:12]}.jsonl")
        tags = dvc_tags(locked_outputs(Path()), corpus=training.corpus, trained=False)
        header = LogHeader(training, source_state(Path()), tags, now())
        log._write({**asdict(header), "process": process_name()})
        return cls(log.path)

    def add(self, entry: LogEntry) -> None:
        """Write an event; it is in the file when this returns."""
        self.entries.append(entry)
        self._write(asdict(entry))

    def mark_sent(self, uri: str) -> None:
        """Note that MLflow at `uri` has received everything so far."""
        self._write({"sent_to": uri})

    def _write(self, line: Mapping[str, Any]) -> None:
        # the newline comes first, so that a line that a kill cut short does not damage the next one
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line, default=str))


def process_name() -> str:
    """Return a name that no other process has or had: host, process id and start time."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_gone(process: str) -> bool:
    """Return whether the process with this `process_name` has ended; False for a process of another host."""
    host, pid, started = process.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        found = psutil.Process(int(pid))
        # the system's start time can shift with the clock
        return abs(found.create_time() - float(started)) > 2 or found.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def now() -> int:
    """Return the time in milliseconds since 1970, as MLflow stores it."""
    return int(time.time() * 1000)


def _header(line: Mapping[str, Any]) -> LogHeader:
    return LogHeader(TrainingInfo(**line["training"]), SourceState(**line["source"]), line["tags"], line["time"])


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
