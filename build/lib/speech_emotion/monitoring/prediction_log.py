"""Write and read the prediction log: Parquet files of predictions and audio statistics.

A row has no audio, path, text or address, and its time is rounded to the hour. Files are written atomically, so readers
never see a partial file.
"""

import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.audio.decode import Sound
from speech_emotion.config.monitoring import LogSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing
from speech_emotion.monitoring.audio_stats import Traits, traits

if TYPE_CHECKING:
    import pyarrow as pa

    from speech_emotion.inference.recognizer import Prediction

HOUR: Final = 3600
"""Seconds to which times are rounded down: enough to cut periods, too coarse to find a caller by."""

Entry = Mapping[str, Any]
"""A row, ready for JSON: workers hand it on to the one process that writes."""

_STALE_SECONDS: Final = 3600.0
"""After which a half-written file belongs to nobody: writing one takes a fraction of a second."""


def entry(traits: Traits, prediction: "Prediction", versions: Mapping[str, str], *, now: float | None = None) -> Entry:
    """Return what is written down of an answer.

    Parameters
    ----------
    traits : Traits
        Of the recording.
    prediction : Prediction
        Of the whole recording; its numbers are rounded to 0.001.
    versions : mapping of str to str
        `model`, `model_version` and `package_digest`.
    now : float, optional
        Seconds since 1970; None: the clock's.
    """
    seconds = int(time.time() if now is None else now)
    return {
        "hour": seconds - seconds % HOUR,
        **versions,
        "label": prediction.label,
        "sure": prediction.sure,
        "confidence": round(prediction.confidence, 3),
        "probabilities": {label: round(share, 3) for label, share in prediction.probabilities.items()},
        **traits.values(),
    }


@cache
def schema() -> "pa.Schema":
    """Return the columns of a log; the same for every package, whatever its labels."""
    import pyarrow as pa

    number, text = pa.float32(), pa.string()
    return pa.schema(
        {
            "hour": pa.timestamp("ms", tz="UTC"),
            "model": text,
            "model_version": text,
            "package_digest": text,
            "label": text,
            "sure": pa.bool_(),
            "confidence": number,
            "probabilities": pa.map_(text, number),
            "sample_rate": pa.int32(),
            "channels": pa.int16(),
            "seconds": number,
            "level_dbfs": number,
            "peak_dbfs": number,
            "noise_dbfs": number,
            "voiced_share": number,
            "pitch_hz": number,
            "pitch_range": number,
            "centroid_hz": number,
            "bandwidth_hz": number,
        }
    )


class Logbook:
    """A folder of files that this process adds to; any number of processes may add to the same folder.

    Parameters
    ----------
    folder : Path
        Is made where it does not exist.
    settings : LogSettings

    Raises
    ------
    UserError
        The folder cannot be written to.
    """

    def __init__(self, folder: Path, settings: LogSettings) -> None:
        self._folder, self._settings = folder, settings
        self._waiting: list[Entry] = []
        self._begun = 0.0
        open_folder(folder)

    def add(self, entries: Iterable[Entry]) -> None:
        """Take rows, and write a file when it is time."""
        for one in entries:
            if not self._waiting:
                self._begun = time.monotonic()
            self._waiting.append(one)
            if len(self._waiting) >= self._settings.rows:
                self.write()
        if self.due == 0:
            self.write()

    @property
    def due(self) -> float | None:
        """Seconds until the rows that wait are old enough to be written; None: none wait."""
        if not self._waiting:
            return None
        return max(0.0, self._begun + 60 * self._settings.minutes - time.monotonic())

    def write(self) -> None:
        """Write all that waits; where that fails it is lost, for a log must not fill the memory.

        Raises
        ------
        OSError
            The disk is full, or the folder is gone.
        """
        rows, self._waiting = self._waiting, []
        if rows:
            hour = datetime.fromtimestamp(int(rows[0]["hour"]), UTC)
            write_file(self._folder / f"{hour:%Y-%m-%dT%H}-{uuid.uuid4().hex[:12]}.parquet", rows)


def open_folder(folder: Path) -> None:
    """Make a log's folder, and remove from it what killed processes have left half written.

    Raises
    ------
    UserError
        It cannot be written to, or pyarrow is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        raise UserError("a log of predictions needs the package 'pyarrow', which is not installed.") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / ".writable"):
            pass
        (folder / ".writable").unlink(missing_ok=True)
        for left in folder.glob(".*.partial"):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: no log can be written there ({error.strerror}).") from None


def write_file(path: Path, rows: Sequence[Entry]) -> None:
    """Write a file of the log, whole or not at all, also where the machine stops."""
    import pyarrow.parquet as pq

    with replacing(path) as aside, open(aside, "wb") as file:
        pq.write_table(table(rows), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def table(rows: Sequence[Entry]) -> "pa.Table":
    """Return rows as a table with the columns of `schema`."""
    import pyarrow as pa

    pairs = [{**row, "hour": 1000 * row["hour"], "probabilities": list(row["probabilities"].items())} for row in rows]
    return pa.Table.from_pylist(pairs, schema=schema())


@dataclass(frozen=True)
class Period:
    """From when to when, in whole hours of UTC; None: without an end there.

    Attributes
    ----------
    since : datetime or None
        The first hour.
    until : datetime or None
        The first hour that is no longer in it.
    """

    since: datetime | None = None
    until: datetime | None = None


def read(log: Path, period: Period = Period()) -> "pa.Table":
    """Return the rows of a period.

    Parameters
    ----------
    log : Path
        A folder, or one file of one.
    period : Period

    Raises
    ------
    UserError
        There is no log, or one of its files is damaged or something else.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    files = [log] if log.is_file() else sorted(path for path in log.glob("*.parquet") if path.name[0] != ".")
    if not files:
        raise UserError(
            f"{log}: there is no log of predictions here. `speech-emotion serve --log-predictions FOLDER` and "
            "`speech-emotion predict --log FOLDER` write one."
        )
    conditions = [
        *([] if period.since is None else [pc.field("hour") >= pa.scalar(period.since, schema().field("hour").type)]),
        *([] if period.until is None else [pc.field("hour") < pa.scalar(period.until, schema().field("hour").type)]),
    ]
    tables = []
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                if file.schema_arrow.remove_metadata() != schema():
                    raise UserError(f"{path}: is no file of a log of predictions, by its columns. Move it elsewhere.")
                found = file.read()
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0][:120]
            raise UserError(f"{path}: cannot be read as Parquet ({reason}). Move it elsewhere.") from None
        for condition in conditions:
            found = found.filter(condition)
        tables.append(found)
    return pa.concat_tables(tables)


@dataclass(frozen=True)
class BatchLog:
    """A folder's log, as `inference.batch` writes to it.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    def measure(self, sound: Sound) -> Traits:
        """Return the traits of a sound."""
        return traits(sound)

    def entry(self, measured: Traits, prediction: "Prediction", versions: Mapping[str, str]) -> Entry:
        """Return the log's row of a prediction."""
        return entry(measured, prediction, versions)

    def write(self, name: str, entries: Sequence[Entry]) -> None:
        """Write rows to a file of this name."""
        write_file(self.folder / name, entries)
