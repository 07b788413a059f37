"""Takes a training's events as they happen; gives a file that tells them all, also after the process was killed."""

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

JOURNALS: Final = SCRATCH / "tracking"

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Training:
    """What tells a training from others: it names a run of MLflow and becomes its parameters and tags.

    Attributes
    ----------
    corpus, protocol, fold : str
    digest : str
        Of all that decides the weights.
    params : mapping of str to Any
        Settings, by dotted keys.
    lineage : mapping of str to str
        Digests of what the training was made from.
    """

    corpus: str
    protocol: str
    fold: str
    digest: str
    params: Mapping[str, Any]
    lineage: Mapping[str, str]

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.protocol}/{self.fold}"


@dataclass(frozen=True)
class Entry:
    """One event: at `time` (ms since 1970), at `step`, these metrics; or the end, with a status and a reason."""

    time: int
    kind: Literal["epoch", "system", "end"]
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    status: Status | None = None
    reason: str = ""


@dataclass(frozen=True)
class Header:
    """What is known when a training starts: the training, the source, DVC's hashes (as tags), and the time."""

    training: Training
    source: SourceState
    tags: Mapping[str, str]
    time: int


class Journal:
    """A file of one JSON object a line: a header, then events, the processes that wrote them, and who was told.

    Parameters
    ----------
    path : Path
        An existing journal; a line that a kill has cut short is passed over.

    Attributes
    ----------
    header : Header or None
        None: the process was killed before anything was written.
    entries : list of Entry
    process : str
        The last process that wrote it, see `process_name`.
    sent_to : str
        The tracking URI that has been told all; empty where there is more to tell.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = _read_lines(path)
        self.header = next((_header(line) for line in lines if "training" in line), None)
        self.entries = [Entry(**line) for line in lines if "kind" in line]
        self.process: str = next((line["process"] for line in reversed(lines) if "process" in line), "")
        self.sent_to: str = lines[-1].get("sent_to", "") if lines else ""

    @property
    def key(self) -> str:
        """What names the run wherever it is told of."""
        return self.path.stem

    @property
    def end(self) -> Entry | None:
        """How it ended; None: it goes on, or its process was killed."""
        return self.entries[-1] if self.entries and self.entries[-1].kind == "end" else None

    @classmethod
    def all(cls, folder: Path = JOURNALS) -> list[Self]:
        """Return the journals in a folder, those without a header left out."""
        journals = [cls(path) for path in sorted(folder.glob("*.jsonl"))]
        return [journal for journal in journals if journal.header is not None]

    @classmethod
    def open(cls, training: Training, folder: Path = JOURNALS) -> Self:
        """Go on with the journal of the same training where that did not end well, else begin one.

        Raises
        ------
        OSError
            The folder cannot be written.
        """
        for journal in cls.all(folder):
            assert journal.header is not None
            finished = journal.end is not None and journal.end.status == "FINISHED"
            if journal.header.training.digest == training.digest and not finished and is_gone(journal.process):
                journal._write({"process": process_name()})
                return cls(journal.path)
        folder.mkdir(parents=True, exist_ok=True)
        journal = cls(folder / f"{training.digest[:12]}-{uuid.uuid4().hex[:12]}.jsonl")
        tags = dvc_tags(locked_outputs(Path()), corpus=training.corpus, protocol=training.protocol, trained=False)
        header = Header(training, source_state(Path()), tags, now())
        journal._write({**asdict(header), "process": process_name()})
        return cls(journal.path)

    def add(self, entry: Entry) -> None:
        """Write an event; it is in the file when this returns."""
        self.entries.append(entry)
        self._write(asdict(entry))

    def mark_sent(self, uri: str) -> None:
        """Note that MLflow at `uri` has been told all; a later event undoes it."""
        self._write({"sent_to": uri})

    def _write(self, line: Mapping[str, Any]) -> None:
        # the newline comes first, so that what a kill has cut short is a line of its own
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line, default=str))


def process_name() -> str:
    """Return what names this process among all that ever ran: host, process id, and when it began."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_gone(process: str) -> bool:
    """Tell whether the process that `process_name` named has ended; of another host's it is unknown, so False."""
    host, pid, born = process.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        found = psutil.Process(int(pid))
        # the system's idea of when it was started may shift with the clock
        return abs(found.create_time() - float(born)) > 2 or found.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def now() -> int:
    """Return the time as MLflow has it: milliseconds since 1970."""
    return int(time.time() * 1000)


def _header(line: Mapping[str, Any]) -> Header:
    return Header(Training(**line["training"]), SourceState(**line["source"]), line["tags"], line["time"])


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").split("\n"):
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
