import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.voices import RATE, voices
from speech_emotion.audio.decode import from_array
from speech_emotion.config.monitoring import LogSettings
from speech_emotion.core.errors import UserError
from speech_emotion.inference.recognizer import Prediction
from speech_emotion.monitoring.audio_stats import describe
from speech_emotion.monitoring.prediction_log import Entry, Logbook, Period, entry, read

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATS = describe(from_array(voices(1, seed=1)[0], RATE))
PREDICTION = Prediction("happy", 0.81234, {"angry": 0.18766, "happy": 0.81234}, sure=True)
VERSIONS = {"model": "m", "model_version": "3", "package_digest": "d" * 64}
MANY = LogSettings(rows=1000, minutes=60.0)


def row(hours: float = 0.0, **changes: Any) -> Entry:
    return {**entry(STATS, PREDICTION, VERSIONS), "hour": int(NOON.timestamp() + 3600 * hours), **changes}


def test_reads_what_was_written(tmp_path: Path) -> None:
    book, before = Logbook(tmp_path / "log", MANY), datetime.now(UTC)
    book.add([entry(STATS, PREDICTION, VERSIONS)])
    book.flush()

    [found] = read(tmp_path / "log").to_pylist()

    hours = {moment.replace(minute=0, second=0, microsecond=0) for moment in (before, datetime.now(UTC))}
    assert found["hour"] in hours  # the minute is not kept
    assert {name: found[name] for name in VERSIONS} == VERSIONS
    assert (found["label"], found["sure"]) == ("happy", True)
    assert found["confidence"] == pytest.approx(0.812)
    assert dict(found["probabilities"]) == pytest.approx({"angry": 0.188, "happy": 0.812})
    assert {name: found[name] for name in asdict(STATS)} == pytest.approx(asdict(STATS), rel=1e-6)


def test_writes_by_rows_or_age(tmp_path: Path) -> None:
    counted = Logbook(tmp_path / "counted", LogSettings(rows=3, minutes=60.0))
    timed = Logbook(tmp_path / "timed", LogSettings(rows=1000, minutes=1e-9))

    counted.add([row()] * 7)
    timed.add([row()])

    assert sorted(len(pq.read_table(path)) for path in (tmp_path / "counted").glob("*.parquet")) == [3, 3]
    assert counted.due is not None
    assert len(read(tmp_path / "timed")) == 1
    assert timed.due is None


def test_reads_a_period(tmp_path: Path) -> None:
    for hours in ((-1, 0), (1, 2)):  # two writers
        book = Logbook(tmp_path, MANY)
        book.add([row(one) for one in hours])
        book.flush()
    hour = timedelta(hours=1)

    assert len(read(tmp_path, Period(NOON, NOON + hour))) == 1
    assert len(read(tmp_path, Period(since=NOON))) == 3
    assert len(read(tmp_path, Period(until=NOON))) == 1
    assert len(read(tmp_path, Period(since=NOON + 9 * hour))) == 0


def damaged(path: Path) -> None:
    path.write_bytes(b"PAR1")


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no prediction log here"),
        (damaged, r"log\.parquet: cannot read it as Parquet"),
        (foreign, r"log\.parquet: not a file of a prediction log"),
        (os.mkfifo, r"log\.parquet: cannot read"),
    ],
)
def test_names_unusable_files(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path / "log.parquet")

    for log in (tmp_path, tmp_path / "log.parquet"):
        with pytest.raises(UserError, match=message):
            read(log)
