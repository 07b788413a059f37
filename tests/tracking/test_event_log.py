import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from speech_emotion.tracking.event_log import Entry, Journal, Training, is_gone, process_name

TRAINING = Training("tiny", "random", "all", "a" * 64, {"train.epochs": 3}, {"split": "b" * 64})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def open_in_another_process(epochs: int) -> None:
    """Write a journal, and be killed."""
    program = (
        "import os, signal, sys\n"
        "from speech_emotion.tracking.event_log import Entry, Journal, Training\n"
        f"journal = Journal.open({TRAINING!r})\n"
        "for epoch in range(1, int(sys.argv[1]) + 1):\n"
        "    journal.add(Entry(epoch, 'epoch', epoch, {'loss': 1 / epoch}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(epochs)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_what_is_written_is_read_again() -> None:
    journal = Journal.open(TRAINING)
    entries = [Entry(1, "epoch", 1, {"loss": 0.5}), Entry(2, "system", 1, {"system/cpu": 1.0}), Entry(3, "end")]
    for entry in entries:
        journal.add(entry)

    [again] = Journal.all()

    assert again.header is not None
    assert (again.header.training, again.entries, again.process) == (TRAINING, entries, process_name())
    assert again.end == entries[-1]


def test_a_killed_training_goes_on_in_its_journal() -> None:
    open_in_another_process(2)

    journal = Journal.open(TRAINING)

    assert [entry.step for entry in journal.entries] == [1, 2]
    assert journal.process == process_name()
    assert len(Journal.all()) == 1


def test_another_training_has_another_journal() -> None:
    open_in_another_process(1)

    Journal.open(Training("tiny", "word", "all", "c" * 64, {}, {}))

    assert len(Journal.all()) == 2


def test_a_training_that_is_repeated_has_a_journal_of_its_own() -> None:
    first = Journal.open(TRAINING)
    first.add(Entry(1, "end", status="FINISHED"))

    assert Journal.open(TRAINING).key != first.key


def test_a_line_that_was_cut_short_costs_only_itself() -> None:
    open_in_another_process(2)
    [path] = Path(".scratch/tracking").iterdir()
    path.write_bytes(path.read_bytes()[:-9])

    journal = Journal.open(TRAINING)
    journal.add(Entry(2, "epoch", 2, {"loss": 0.5}))

    assert [entry.step for entry in Journal(path).entries] == [1, 2]


def test_a_journal_without_a_header_is_passed_over() -> None:
    folder = Path(".scratch/tracking")
    folder.mkdir(parents=True)
    (folder / "x.jsonl").write_text('\n{"training": {"cor')

    assert Journal.all() == []


def test_an_event_undoes_that_all_was_sent() -> None:
    journal = Journal.open(TRAINING)
    journal.mark_sent("sqlite:///x")
    assert Journal(journal.path).sent_to == "sqlite:///x"

    journal.add(Entry(1, "epoch", 1))

    assert Journal(journal.path).sent_to == ""


def test_a_process_is_gone_when_it_ended_or_its_number_is_used_by_another() -> None:
    host, pid, born = process_name().rsplit(":", 2)

    assert not is_gone(process_name())
    assert is_gone(f"{host}:{pid}:{float(born) - 100:.2f}")
    assert is_gone(f"{host}:{_ended_process()}:{born}")
    assert not is_gone(f"another-{host}:{pid}:{float(born) - 100:.2f}")


def test_the_file_is_one_json_object_a_line() -> None:
    Journal.open(TRAINING).add(Entry(1, "epoch", 1, {"loss": 0.5}))

    [path] = Path(".scratch/tracking").iterdir()

    assert [type(json.loads(line)) for line in path.read_text().split("\n")[1:]] == [dict, dict]


def _ended_process() -> int:
    """Return the id of a process that has ended; a number that only looks free may be that of a thread."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid
