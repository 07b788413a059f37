"""Predict any number of recordings on all cores, and write the predictions to a file.

Predictions go to a journal beside the output, one line per recording in the order of the recordings. An interrupted run
resumes at the end of the journal: no recording is lost or predicted twice. The output is written at the end, from the
whole journal.
"""

import fcntl
import glob
import hashlib
import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass
from functools import cache, partial
from itertools import count, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, Protocol

from speech_emotion.audio.decode import AudioError, Sound, decode
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, write_csv_rows
from speech_emotion.core.parallel import WorkerKilledError, core_count, parallel_map, start_worker, with_threads
from speech_emotion.inference.profile import Profile, Profiles
from speech_emotion.inference.recognizer import Prediction, Recognizer

if TYPE_CHECKING:
    from speech_emotion.config.params import RaySettings

CHUNK: Final = 32
"""Recordings that are predicted, and written to the journal, together."""

FEW: Final = 8 * CHUNK
"""Up to this many recordings are predicted in this process, in less time than others take to start."""

_ROWS_A_GROUP: Final = 10_000

FileFormat = Literal["csv", "json", "parquet"]
"""Formats of an output file."""


@dataclass(frozen=True)
class BatchRow:
    """The prediction of a recording, or the reason why it cannot be used.

    `probabilities` are in the order of the package's labels; `entry` is the row in the prediction log, if there is one.
    """

    path: str
    reason: str = ""
    label: str = ""
    confidence: float = 0.0
    sure: bool = False
    probabilities: tuple[float, ...] = ()
    entry: Mapping[str, Any] | None = None


class PredictionLog(Protocol):
    """A log of predictions. Worker processes receive a copy, so it can be pickled."""

    def measure(self, sound: Sound) -> Any:
        """Return the audio statistics that the log stores."""

    def entry(self, measured: Any, prediction: Prediction, versions: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the log's row of a prediction."""

    def write(self, name: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write rows to a file of this name, replacing an earlier one."""


NO_PROFILES: Final = Profiles()

Watch = Callable[[Iterable[BatchRow], int], Iterable[BatchRow]]
"""Receives rows and their number and yields the rows, for example with a progress bar."""


def rows(
    recognizer: Recognizer,
    paths: Sequence[Path],
    *,
    workers: int | None = None,
    cluster: "RaySettings | None" = None,
    log: PredictionLog | None = None,
    profiles: Profiles = NO_PROFILES,
) -> Generator[BatchRow, None, None]:
    """Yield a row for each recording, in their order.

    More than `FEW` recordings are predicted by `workers` processes (None: one per core), or on a cluster: every node
    must see recordings and package under the same paths. `log` fills `BatchRow.entry`; `profiles` are those of the
    speakers.
    """
    recordings = [(str(path), profiles.of(path)) for path in paths]
    chunks = [recordings[start : start + CHUNK] for start in range(0, len(recordings), CHUNK)]
    if len(paths) <= FEW and cluster is None:
        found: Iterable[list[BatchRow]] = parallel_map(partial(_predict, recognizer, log), chunks, workers=1)
    else:
        predict = partial(_load_and_predict, str(recognizer.package.folder.absolute()), log)
        if cluster is None:
            found = _in_processes(predict, chunks, min(workers or core_count(), len(chunks)))
        else:
            found = parallel_map(predict, chunks, cluster=cluster)
    for some in found:
        yield from some


def predict_into(
    output: Path,
    format: FileFormat,
    recognizer: Recognizer,
    paths: Sequence[Path],
    *,
    workers: int | None = None,
    cluster: "RaySettings | None" = None,
    watch: Watch = lambda found, _: found,
    resumed: Callable[[int], None] = lambda _: None,
    log: PredictionLog | None = None,
    profiles: Profiles = NO_PROFILES,
) -> list[BatchRow]:
    """Write the predictions of recordings to a file, atomically, and return the recordings that cannot be used.

    `watch` receives the rows as they are predicted, `resumed` the number of recordings that an interrupted run had
    predicted, and `log` the predictions at the end, from the journal, so that it contains each recording once. See
    `rows` for the other parameters.

    Raise a `UserError` if the output is a folder or cannot be written, or another process writes the same output.
    """
    if output.is_dir():
        raise UserError(f"{output}: is a folder; --output needs a file.")
    key = _key(recognizer, paths, profiles, logged=log is not None)
    with _journal(output, key) as journal:
        done = _whole_lines(journal, paths)
        if done:
            resumed(done)
        left = paths[done:]
        with closing(rows(recognizer, left, workers=workers, cluster=cluster, log=log, profiles=profiles)) as found:
            watched = iter(watch(found, len(left)))
            while some := list(islice(watched, CHUNK)):
                with _writing(output):
                    journal.write(b"".join(map(_line, some)))
                    journal.flush()
                    os.fsync(journal.fileno())
        if log is not None:
            _write_log(log, key, _predicted(journal))
        with _writing(output), replacing(output) as temporary:
            write(format, _predicted(journal), recognizer.labels, temporary)
        return [row for row in _read(journal) if row.reason]


def write(format: FileFormat, rows: Iterable[BatchRow], labels: Sequence[str], target: Path) -> None:
    """Write rows to a file, one at a time to save memory."""
    if format == "parquet":
        _write_parquet(rows, labels, target)
        return
    # file names may contain bytes that are not text
    with open(target, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        (write_csv if format == "csv" else write_json)(rows, labels, file)


def write_csv(rows: Iterable[BatchRow], labels: Sequence[str], file: IO[str]) -> None:
    """Write rows as CSV: path, label, confidence, sure and a probability for each label."""
    cells = (
        (row.path, row.label, f"{row.confidence:.6f}", str(row.sure).lower(), *map("{:.6f}".format, row.probabilities))
        for row in rows
    )
    write_csv_rows(file, ("path", "label", "confidence", "sure", *labels), cells)


def write_json(rows: Iterable[BatchRow], labels: Sequence[str], file: IO[str]) -> None:
    """Write rows as a JSON array with one object per line."""
    separator = "["
    for row in rows:
        content = {
            "path": row.path,
            "label": row.label,
            "confidence": round(row.confidence, 6),
            "sure": row.sure,
            "probabilities": {one: round(share, 6) for one, share in zip(labels, row.probabilities, strict=True)},
        }
        file.write(f"{separator}\n  {json.dumps(content, ensure_ascii=False)}")
        separator = ","
    file.write("[]\n" if separator == "[" else "\n]\n")


def _write_parquet(rows: Iterable[BatchRow], labels: Sequence[str], target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [("path", pa.string()), ("label", pa.string()), ("confidence", pa.float64()), ("sure", pa.bool_())]
    schema = pa.schema([*columns, *((label, pa.float64()) for label in labels)])
    waiting = iter(rows)
    with pq.ParquetWriter(target, schema) as writer:
        while some := list(islice(waiting, _ROWS_A_GROUP)):
            paths = [row.path.encode("utf-8", "backslashreplace").decode() for row in some]
            values = [(row.label, row.confidence, row.sure, *row.probabilities) for row in some]
            writer.write_table(pa.table([paths, *zip(*values, strict=True)], schema=schema))


_Chunk = list[tuple[str, Profile | None]]
"""Recordings with the profiles of their speakers."""

_Predict = Callable[[_Chunk], list[BatchRow]]


def _in_processes(predict: _Predict, chunks: Sequence[_Chunk], workers: int) -> Iterator[list[BatchRow]]:
    """Yield the rows of each chunk; a process that crashes costs at most one recording."""
    done = 0
    while done < len(chunks):
        try:
            for some in _map(predict, chunks[done:], workers):
                done += 1
                yield some
        except WorkerKilledError:
            chunk = chunks[done]
            done += 1
            if workers == len(chunk) == 1:
                yield [BatchRow(chunk[0][0], "crashed the process that decoded it")]
            else:  # the chunk may contain the recording that crashed a process: predict its recordings one at a time
                yield [row for [row] in _in_processes(predict, [[one] for one in chunk], workers=1)]


def _map(predict: _Predict, chunks: Sequence[_Chunk], workers: int) -> Iterator[list[BatchRow]]:
    """Predict chunks in processes. On Linux they are forks, which need not import anything."""
    import multiprocessing
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)
    try:
        yield from pool.map(partial(with_threads, 1, predict), chunks)
    except BrokenProcessPool as error:
        raise WorkerKilledError(str(error)) from None
    finally:
        pool.shutdown(cancel_futures=True)


_recognizer = cache(Recognizer.load)


def _load_and_predict(folder: str, log: PredictionLog | None, chunk: _Chunk) -> list[BatchRow]:
    """Predict a chunk in a process that may not have loaded the model yet."""
    return _predict(_recognizer(folder), log, chunk)


def _predict(recognizer: Recognizer, log: PredictionLog | None, chunk: _Chunk) -> list[BatchRow]:
    rows: list[BatchRow] = []
    for profile, some in groupby(chunk, itemgetter(1)):
        own = recognizer if profile is None else recognizer.with_profile(profile)
        rows += _predict_speaker(own, log, [path for path, _ in some])
    return rows


def _predict_speaker(recognizer: Recognizer, log: PredictionLog | None, paths: Iterable[str]) -> list[BatchRow]:
    rows: list[BatchRow] = []
    frames, statistics = [], list[Any]()
    max_seconds = recognizer.package.description.limits.max_seconds
    for path in paths:
        try:
            sound = decode(path, max_seconds=max_seconds)
            measured = log.measure(sound) if log else None
            frames.append(recognizer.frames(sound))
        except AudioError as error:
            rows.append(BatchRow(path, str(error)))
        else:
            rows.append(BatchRow(path))
            statistics.append(measured)
    predictions = zip(recognizer.answers(recognizer.predict_frames(frames)), statistics, strict=True)
    versions = {"model": "", "model_version": "", "package_digest": recognizer.package.digest}

    def row(path: str, prediction: Prediction, measured: Any) -> BatchRow:
        entry = log.entry(measured, prediction, versions) if log else None
        probabilities = tuple(prediction.probabilities.values())
        return BatchRow(path, "", prediction.label, prediction.confidence, prediction.sure, probabilities, entry)

    return [one if one.reason else row(one.path, *next(predictions)) for one in rows]


def _write_log(log: PredictionLog, key: str, rows: Iterator[BatchRow]) -> None:
    """Add rows to a log, in files named by the job, so that a repetition replaces them."""
    entries = (row.entry for row in rows if row.entry is not None)
    for number in count():
        if not (some := list(islice(entries, _ROWS_A_GROUP))):
            return
        log.write(f"predict-{key}-{number:05d}.parquet", some)


def _key(recognizer: Recognizer, paths: Sequence[Path], profiles: Profiles, *, logged: bool) -> str:
    """Identify the job: package, profiles, path, size and time of every recording, and whether it is logged."""
    digest = hashlib.sha256(recognizer.package.digest.encode())
    if profiles != NO_PROFILES:
        digest.update(repr((profiles.other, sorted(profiles.named.items()))).encode())
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
    """Lock and open the journal of a job, and remove it when the job is done."""
    path = output.parent / f".{output.name}.{key}.journal"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        journal = open(path, "a+b")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror}). Give another --output.") from None
    try:
        if not _lock(journal):
            raise UserError(f"{output}: another process writes the same output. Wait for it, or stop it.")
        for other in output.parent.glob(f".{glob.escape(output.name)}.*.journal"):  # of other jobs
            with open(other, "rb") as file:
                if other != path and _lock(file):
                    other.unlink(missing_ok=True)
        yield journal
        path.unlink()
    finally:
        with suppress(OSError):  # flushing to a full disk fails again
            journal.close()


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Report a full or failing disk in one message."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{output}: cannot be written ({why}). Run the same command again to resume.") from None


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _line(row: BatchRow) -> bytes:
    # JSON escapes to ASCII, which preserves names that are not text
    return json.dumps(astuple(row)).encode() + b"\n"


def _read(journal: IO[bytes]) -> Iterator[BatchRow]:
    journal.seek(0)
    for line in journal:
        path, reason, label, confidence, sure, probabilities, entry = json.loads(line)
        yield BatchRow(path, reason, label, confidence, sure, tuple(probabilities), entry)


def _predicted(journal: IO[bytes]) -> Iterator[BatchRow]:
    return (row for row in _read(journal) if not row.reason)


def _whole_lines(journal: IO[bytes], paths: Sequence[Path]) -> int:
    """Return the number of recordings in the journal, after removing an incomplete last line."""
    journal.seek(0)
    whole, end = 0, 0
    for line, path in zip(journal, paths, strict=False):
        try:
            if not line.endswith(b"\n") or json.loads(line)[0] != str(path):
                break
        except (ValueError, LookupError):
            break
        whole, end = whole + 1, end + len(line)
    journal.truncate(end)
    journal.seek(0, os.SEEK_END)
    return whole
