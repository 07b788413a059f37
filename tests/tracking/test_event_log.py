import signal
import subprocess
import sys
from pathlib import Path

import pytest

from speech_emotion.tracking.event_log import EventLog, LogEntry, TrainingInfo, is_gone, process_name

TRAINING = TrainingInfo("tiny", "random", "all", "a" * 64, {"train.epochs": 3}, {"split": "b" * 64})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_and_be_killed(epochs: int) -> None:
    program = (
        "import os, signal, sys\n"
        "from speech_emotion.tracking.event_log import EventLog, LogEntry, TrainingInfo\n"
        f"log = EventLog.open({TRAINING!r})\n"
        "for epoch in range(1, int(sys.argv[1]) + 1):\n"
        "    log.add(LogEntry(epoch, epoch, {'loss': 1 / epoch}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(epochs)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_entries_are_read_as_written() -> None:
    log = EventLog.open(TRAINING)
    entries = [LogEntry(1, 1, {"loss": 0.5}), LogEntry(3, status="FINISHED")]
    for entry in entries:
        log.add(entry)

    [again] = EventLog.all()

    assert again.header is not None
    assert (again.header.training, again.entries, again.process) == (TRAINING, entries, process_name())
    assert again.end == entries[-1]


def test_killed_training_continues_its_log() -> None:
    write_and_be_killed(2)

    log = EventLog.open(TRAINING)

    assert ([entry.step for entry in log.entries], log.process) == ([1, 2], process_name())
    assert len(EventLog.all()) == 1


def test_other_trainings_have_their_own_log() -> None:
    write_and_be_killed(1)

    other = EventLog.open(TrainingInfo("tiny", "word", "all", "c" * 64, {}, {}))
    other.add(LogEntry(1, status="FINISHED"))
    # a finished training that is repeated is another run
    EventLog.open(TrainingInfo("tiny", "word", "all", "c" * 64, {}, {}))

    assert len(EventLog.all()) == 3


def test_truncated_line_is_skipped() -> None:
    write_and_be_killed(2)
    [path] = Path(".scratch/tracking").iterdir()
    path.write_bytes(path.read_bytes()[:-9])

    log = EventLog.open(TRAINING)
    log.add(LogEntry(2, 2, {"loss": 0.5}))

    assert [entry.step for entry in EventLog(path).entries] == [1, 2]


def test_log_without_header_is_skipped() -> None:
    folder = Path(".scratch/tracking")
    folder.mkdir(parents=True)
    (folder / "x.jsonl").write_text('\n{"training": {"cor')

    assert EventLog.all() == []


def test_new_event_clears_sent_to() -> None:
    log = EventLog.open(TRAINING)
    log.mark_sent("sqlite:///x")
    assert EventLog(log.path).sent_to == "sqlite:///x"

    log.add(LogEntry(1, 1))

    assert EventLog(log.path).sent_to == ""


def test_is_gone() -> None:
    host, pid, started = process_name().rsplit(":", 2)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass

    assert not is_gone(process_name())
    assert is_gone(f"{host}:{pid}:{float(started) - 100:.2f}")
    assert is_gone(f"{host}:{ended.pid}:{started}")
    assert not is_gone(f"another-{host}:{pid}:{float(started) - 100:.2f}")


def test_log_of_another_version_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text('{"kind": "epoch", "step": 1, "time": 0, "unknown": true}\n')

    assert EventLog.all(tmp_path) == []
