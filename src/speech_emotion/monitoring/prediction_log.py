"""Write and read the prediction log: Parquet files of predictions and audio statistics.

A row has no audio, path, text or address, and its time is rounded to the hour. Files are written atomically, so readers
never see a partial file.
"""

import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speech_emotion.config.monitoring import LogSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import open_regular_file, replacing, walk_files
from speech_emotion.monitoring.audio_stats import NAMES, AudioStats, describe

if TYPE_CHECKING:
    import pyarrow as pa

    from speech_emotion.inference.recognizer import Prediction

Entry = Mapping[str, Any]
"""A row, ready for JSON: workers send it to the one process that writes."""


def entry(audio: AudioStats, prediction: "Prediction", versions: Mapping[str, str]) -> Entry:
    """Return the row of the prediction of a whole recording; `versions` are those of `Model`."""
    seconds = int(time.time())
    return {
        "hour": seconds - seconds % 3600,  # too coarse to identify a caller
        **versions,
        "label": prediction.label,
        "sure": prediction.sure,
        "confidence": round(prediction.confidence, 3),
        "probabilities": {label: round(share, 3) for label, share in prediction.probabilities.items()},
        **asdict(audio),
    }


@cache
def schema() -> "pa.Schema":
    """Return the columns of a log, which are the same for every package."""
    import pyarrow as pa

    number, text = pa.float32(), pa.string()
    return pa.schema(
        {
            "hour": pa.timestamp("ms", tz="UTC"),
            **dict.fromkeys(("model", "model_version", "package_digest", "label"), text),
            "sure": pa.bool_(),
            "confidence": number,
            "probabilities": pa.map_(text, number),
            **dict.fromkeys(NAMES, number),
            "sample_rate": pa.int32(),
            "channels": pa.int16(),
        }
    )


class Logbook:
    """Write a folder of Parquet files; several processes can write to the same folder.

    Raises UserError if the folder cannot be written to. `inference.batch` writes files of its own to it.
    """

    measure = staticmethod(describe)
    entry = staticmethod(entry)

    def __init__(self, folder: Path, settings: LogSettings) -> None:
        self._folder, self._settings = folder, settings
        self._waiting: list[Entry] = []
        self._begun = 0.0
        try:
            import pyarrow  # noqa: F401

            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except ModuleNotFoundError:
            raise UserError("The prediction log needs pyarrow: pip install pyarrow") from None
        except OSError as error:
            raise UserError(f"{folder}: cannot write a log there ({error.strerror}). Choose another folder.") from None

    def add(self, entries: Iterable[Entry]) -> None:
        """Add rows, and write a file when there are enough or the first is old enough."""
        for one in entries:
            if not self._waiting:
                self._begun = time.monotonic()
            self._waiting.append(one)
            if len(self._waiting) >= self._settings.rows:
                self.flush()
        if self.due == 0:
            self.flush()

    @property
    def due(self) -> float | None:
        """Seconds until waiting rows are to be written; None: none wait."""
        if not self._waiting:
            return None
        return max(0.0, self._begun + 60 * self._settings.minutes - time.monotonic())

    def flush(self) -> None:
        """Write all waiting rows; if that raises OSError they are lost, so that they do not fill the memory."""
        rows, self._waiting = self._waiting, []
        if rows:
            hour = datetime.fromtimestamp(int(rows[0]["hour"]), UTC)
            self.write(f"{hour:%Y-%m-%dT%H}-{uuid.uuid4().hex[:12]}.parquet", rows)

    def write(self, name: str, entries: Sequence[Entry]) -> None:
        """Write a file of the log atomically and durably, replacing an earlier one of this name."""
        import pyarrow.parquet as pq

        with replacing(self._folder / name) as temporary, open(temporary, "wb") as file:
            pq.write_table(table(entries), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())


def table(rows: Sequence[Entry]) -> "pa.Table":
    """Return rows as a table with the columns of `schema`."""
    import pyarrow as pa

    pairs = [{**row, "hour": 1000 * row["hour"], "probabilities": list(row["probabilities"].items())} for row in rows]
    return pa.Table.from_pylist(pairs, schema=schema())


@dataclass(frozen=True)
class Period:
    """Hours in UTC, from `since` up to and without `until`; None: open."""

    since: datetime | None = None
    until: datetime | None = None


def read(log: Path, period: Period = Period()) -> "pa.Table":
    """Return the rows of a period from a folder or one file."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    files = [log] if log.exists() else []
    if log.is_dir():
        files = [path for path in walk_files(log) if path.suffix == ".parquet"]
    if not files:
        raise UserError(
            f"{log}: no prediction log here. Write one with `speech-emotion serve --log-predictions FOLDER` or "
            "`speech-emotion predict --log FOLDER`."
        )
    hour, condition = pc.field("hour"), pc.scalar(True)
    if period.since is not None:
        condition &= hour >= pa.scalar(period.since, pa.timestamp("ms", "UTC"))
    if period.until is not None:
        condition &= hour < pa.scalar(period.until, pa.timestamp("ms", "UTC"))
    tables = []
    for path in files:
        try:
            with open_regular_file(path) as opened, pq.ParquetFile(opened) as file:
                if file.schema_arrow.remove_metadata() != schema():
                    raise UserError(f"{path}: not a file of a prediction log. Move it elsewhere.")
                found = file.read()
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0][:120]
            raise UserError(f"{path}: cannot read it as Parquet ({reason}). Move it elsewhere.") from None
        tables.append(found.filter(condition))
    return pa.concat_tables(tables)
