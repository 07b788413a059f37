"""Takes any number of recordings and a package; gives a row for each, by all cores, in a file that a kill cannot harm.

What is answered goes into a journal beside the output, a line a recording in the recordings' order. A run that was cut
off is gone on with where the journal ends: no recording is answered twice, none is lost. The output itself is made
of the whole journal, at the end.
"""

import csv
import fcntl
import glob
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from speech_emotion.audio.decode import AudioError, Sound, decode
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.process import die_with_parent
from speech_emotion.inference.recognizer import Prediction, Recognizer

if TYPE_CHECKING:
    from speech_emotion.config.compute import RaySettings

CHUNK: Final = 32
"""Recordings that are answered together, and written down together."""

FEW: Final = 8 * CHUNK
"""Up to so many are answered in this process: others would not have started before it is done."""

_ROWS_A_GROUP: Final = 10_000


class Form(StrEnum):
    """How a file of answers is written."""

    csv = "csv"
    json = "json"
    parquet = "parquet"


@dataclass(frozen=True)
class Row:
    """What became of a recording.

    Attributes
    ----------
    path : str
    reason : str
        Why it cannot be used; empty where it was answered.
    label : str
    confidence : float
    sure : bool
    probabilities : tuple of float
        In the order of the package's labels.
    entry : mapping or None
        What a log of predictions is to hold of it; None: none is kept, or it was not answered.
    """

    path: str
    reason: str = ""
    label: str = ""
    confidence: float = 0.0
    sure: bool = False
    probabilities: tuple[float, ...] = ()
    entry: Mapping[str, Any] | None = None


class Log(Protocol):
    """A log of predictions; it goes to other processes, so it can be pickled."""

    def measure(self, sound: Sound) -> Any:
        """Return what the log keeps of a recording's sound."""

    def entry(self, measured: Any, prediction: Prediction, versions: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the log's row of a prediction."""

    def write(self, name: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write rows to a file of this name: written twice, they are there once."""


Watch = Callable[[Iterable[Row], int], Iterable[Row]]
"""Is given rows and their number, and gives the rows back: a bar, or nothing."""


def rows(
    recognizer: Recognizer,
    paths: Sequence[Path],
    *,
    workers: int | None = None,
    cluster: "RaySettings | None" = None,
    log: Log | None = None,
) -> Generator[Row, None, None]:
    """Yield what becomes of each recording, in their order.

    Parameters
    ----------
    recognizer : Recognizer
    paths : sequence of Path
    workers : int or None
        Processes, for more than `FEW` recordings; None: one a core.
    cluster : RaySettings or None
        A cluster that does it instead; each of its nodes must find recordings and package under the same paths.
    log : Log or None
        Makes the entry that each row brings; None: rows bring none.
    """
    chunks = [list(map(str, paths[start : start + CHUNK])) for start in range(0, len(paths), CHUNK)]
    if len(paths) <= FEW and cluster is None:
        answered: Iterable[list[Row]] = parallel_map(partial(_answer, recognizer, log=log), chunks, workers=1)
    else:
        answer = partial(_answer_by_folder, str(recognizer.package.folder.absolute()), log)
        if cluster is None:
            answered = _by_processes(answer, chunks, workers)
        else:
            answered = parallel_map(answer, chunks, cluster=cluster)
    for some in answered:
        yield from some


def predict_into(
    output: Path,
    form: Form,
    recognizer: Recognizer,
    paths: Sequence[Path],
    *,
    workers: int | None = None,
    cluster: "RaySettings | None" = None,
    watch: Watch = lambda found, _: found,
    resumed: Callable[[int], None] = lambda _: None,
    log: Log | None = None,
) -> list[Row]:
    """Write what is heard in recordings to a file, whole or not at all.

    Parameters
    ----------
    output : Path
        The file, which is replaced.
    form : Form
    recognizer : Recognizer
    paths : sequence of Path
    workers : int or None
    cluster : RaySettings or None
        See `rows`.
    watch : callable
        Sees the rows as they come.
    resumed : callable
        Is told how many recordings an earlier run had answered, if there was one.
    log : Log or None
        A log of predictions, which is added to at the end, from the journal: whatever was killed on the
        way, a recording is in it once.

    Returns
    -------
    list of Row
        The recordings that cannot be used; they are not in the file.

    Raises
    ------
    UserError
        The output is a folder, its folder cannot be written to, or another process writes the same output of the same
        recordings.
    """
    if output.is_dir():
        raise UserError(f"{output}: is a folder; --output names a file.")
    key = _key(recognizer, paths, logged=log is not None)
    with _journal(output, key) as journal:
        done = _whole_lines(journal, paths)
        if done:
            resumed(done)
        left = paths[done:]
        with closing(rows(recognizer, left, workers=workers, cluster=cluster, log=log)) as found:
            watched = iter(watch(found, len(left)))
            while some := [row for _, row in zip(range(CHUNK), watched, strict=False)]:
                with _writing(output):
                    journal.write(b"".join(map(_line, some)))
                    journal.flush()
                    os.fsync(journal.fileno())
        if log is not None:
            _write_log(log, key, _answered(journal))
        with _writing(output), replacing(output) as aside:
            write(form, _answered(journal), recognizer.labels, aside)
        return [row for row in _read(journal) if row.reason]


def write(form: Form, answered: Iterable[Row], labels: Sequence[str], target: Path) -> None:
    """Write rows to a file; a row at a time, so that any number of them needs the memory of a few."""
    if form is Form.parquet:
        _write_parquet(answered, labels, target)
        return
    # a file's name may hold bytes that are no text
    with open(target, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        (write_csv if form is Form.csv else write_json)(answered, labels, file)


def write_csv(answered: Iterable[Row], labels: Sequence[str], file: IO[str]) -> None:
    """Write rows as CSV: path, label, confidence, sure and a column a label."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("path", "label", "confidence", "sure", *labels))
    for row in answered:
        numbers = (f"{number:.6f}" for number in row.probabilities)
        writer.writerow((row.path, row.label, f"{row.confidence:.6f}", str(row.sure).lower(), *numbers))


def write_json(answered: Iterable[Row], labels: Sequence[str], file: IO[str]) -> None:
    """Write rows as one JSON array, an object a line."""
    separator = "["
    for row in answered:
        shares = zip(labels, row.probabilities, strict=True)
        content = {
            "path": row.path,
            "label": row.label,
            "confidence": round(row.confidence, 6),
            "sure": row.sure,
            "probabilities": {label: round(share, 6) for label, share in shares},
        }
        file.write(f"{separator}\n  {json.dumps(content, ensure_ascii=False)}")
        separator = ","
    file.write("[]\n" if separator == "[" else "\n]\n")


def _write_parquet(answered: Iterable[Row], labels: Sequence[str], target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [("path", pa.string()), ("label", pa.string()), ("confidence", pa.float64()), ("sure", pa.bool_())]
    schema = pa.schema([*columns, *((label, pa.float64()) for label in labels)])
    waiting = iter(answered)
    with pq.ParquetWriter(target, schema) as writer:
        while some := [row for _, row in zip(range(_ROWS_A_GROUP), waiting, strict=False)]:
            values = [
                [row.path.encode("utf-8", "backslashreplace").decode() for row in some],
                [row.label for row in some],
                [row.confidence for row in some],
                [row.sure for row in some],
                *([row.probabilities[number] for row in some] for number in range(len(labels))),
            ]
            writer.write_table(pa.table(values, schema=schema))


_Answer = Callable[[list[str]], list[Row]]


def _by_processes(answer: _Answer, chunks: Sequence[list[str]], workers: int | None) -> Iterator[list[Row]]:
    """Yield the rows of each chunk, computed by processes; one that dies costs a recording at most."""
    done = 0
    while done < len(chunks):
        try:
            for some in parallel_map(answer, chunks[done:], workers=workers):
                done += 1
                yield some
        except BrokenProcessPool:
            # which recording it was, nobody says: the next ones are answered one at a time
            yield _one_by_one(answer, chunks[done])
            done += 1


def _one_by_one(answer: _Answer, paths: list[str]) -> list[Row]:
    """Answer recordings of which one may end the process that decodes it, or make the system end it."""
    found: list[Row] = []
    context = multiprocessing.get_context("spawn")
    while len(found) < len(paths):
        with ProcessPoolExecutor(1, mp_context=context, initializer=die_with_parent) as alone:
            try:
                for path in paths[len(found) :]:
                    found += alone.submit(_with_one_thread, answer, [path]).result()
            except BrokenProcessPool:
                found.append(Row(paths[len(found)], "ended the process that decoded it"))
    return found


def _with_one_thread(answer: _Answer, paths: list[str]) -> list[Row]:
    [found] = parallel_map(answer, [paths], workers=1)
    return found


@cache
def _recognizer(folder: str) -> Recognizer:
    return Recognizer.load(folder)


def _answer_by_folder(folder: str, log: Log | None, paths: list[str]) -> list[Row]:
    """Answer a chunk in a process that may not have the model yet."""
    return _answer(_recognizer(folder), paths, log=log)


def _answer(recognizer: Recognizer, paths: list[str], *, log: Log | None) -> list[Row]:
    found: list[Row] = []
    frames, kinds = [], []
    for path in paths:
        try:
            heard, kind = _frames(recognizer, path) if log is None else _measured(recognizer, path, log)
        except AudioError as error:
            found.append(Row(path, str(error)))
        except OSError as error:  # a disk or a network that fails in the middle, or what is no file
            found.append(Row(path, f"cannot be read ({error.strerror or error})"))
        else:
            frames.append(heard)
            kinds.append(kind)
            found.append(Row(path))
    answers = zip(recognizer.answers(recognizer.predict_frames(frames)), kinds, strict=True)
    return [row if row.reason else _row(recognizer, row.path, *next(answers), log) for row in found]


def _frames(recognizer: Recognizer, path: str) -> tuple[np.ndarray, None]:
    return recognizer.frames(path), None


def _measured(recognizer: Recognizer, path: str, log: Log) -> tuple[np.ndarray, Any]:
    sound = decode(path, max_seconds=recognizer.package.description.limits.max_seconds)
    return recognizer.frames(sound.samples, sound.sample_rate), log.measure(sound)


def _row(recognizer: Recognizer, path: str, prediction: Prediction, kind: Any, log: Log | None) -> Row:
    versions = {"model": "", "model_version": "", "package_digest": recognizer.package.digest}
    return Row(
        path,
        "",
        prediction.label,
        prediction.confidence,
        prediction.sure,
        tuple(prediction.probabilities.values()),
        None if log is None else log.entry(kind, prediction, versions),
    )


def _write_log(log: Log, key: str, answered: Iterator[Row]) -> None:
    """Add rows to a log, in files that are named by the work: done twice, they are there once."""
    entries = (row.entry for row in answered if row.entry is not None)
    number = 0
    while some := [one for _, one in zip(range(_ROWS_A_GROUP), entries, strict=False)]:
        log.write(f"predict-{key}-{number:05d}.parquet", some)
        number += 1


def _key(recognizer: Recognizer, paths: Sequence[Path], *, logged: bool) -> str:
    """Return what names the work: the package, the name, size and time of every recording, and what is kept of it."""
    digest = hashlib.sha256(recognizer.package.digest.encode())
    if logged:
        digest.update(b"logged")
    for path in paths:
        try:
            state = path.stat()
            stamp = (state.st_size, state.st_mtime_ns)
        except OSError:
            stamp = (-1, -1)
        digest.update(os.fsencode(path.absolute()) + f"\0{stamp}\0".encode())
    return digest.hexdigest()[:24]


@contextmanager
def _journal(output: Path, key: str) -> Iterator[IO[bytes]]:
    """Hold the journal of a piece of work, alone; once the work is done it is removed."""
    path = output.parent / f".{output.name}.{key}.journal"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        journal = open(path, "a+b")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror}). --output names another file.") from None
    try:
        if not _lock(journal):
            raise UserError(f"{output}: another process is at the same work. Wait for it, or end it.")
        for other in output.parent.glob(f".{glob.escape(output.name)}.*.journal"):
            if other != path:
                _remove_if_left(other)
        yield journal
        path.unlink()
    finally:
        with suppress(OSError):  # what a full disk has not taken, it does not take now
            journal.close()


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Turn a disk that is full, or gone, into one message."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{output}: cannot be written ({why}). What is answered is kept: try the same again.") from None


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_if_left(path: Path) -> None:
    """Remove the journal of other recordings or another model for the same output, unless somebody is at it."""
    with open(path, "rb") as file:
        if _lock(file):
            path.unlink(missing_ok=True)


def _line(row: Row) -> bytes:
    # escaped to ASCII, a name that is no text comes back as it was
    values = [row.path, row.reason, row.label, row.confidence, row.sure, row.probabilities, row.entry]
    return json.dumps(values).encode() + b"\n"


def _read(journal: IO[bytes]) -> Iterator[Row]:
    journal.seek(0)
    for line in journal:
        path, reason, label, confidence, sure, probabilities, written = json.loads(line)
        yield Row(path, reason, label, confidence, sure, tuple(probabilities), written)


def _answered(journal: IO[bytes]) -> Iterator[Row]:
    return (row for row in _read(journal) if not row.reason)


def _whole_lines(journal: IO[bytes], paths: Sequence[Path]) -> int:
    """Return how many recordings the journal holds, and cut off what a kill or a full disk left half written."""
    journal.seek(0)
    count, end = 0, 0
    for line in journal:
        try:
            whole = line.endswith(b"\n") and json.loads(line)[0] == str(paths[count])
        except (ValueError, LookupError):
            whole = False
        if not whole:
            break
        count, end = count + 1, end + len(line)
    journal.truncate(end)
    journal.seek(0, os.SEEK_END)
    return count
