"""Test `speech-emotion serve --log-predictions`: content, processes, and kills."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import recordings
from helpers.emotion_server import EmotionServer, emotion_server, records, wait_until
from speech_emotion.audio.decode import decode
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.monitoring.audio_stats import describe
from speech_emotion.monitoring.prediction_log import read, schema

TONE = recordings.tone()
WAV = recordings.encoded(TONE)
MP3 = recordings.lossy("MP3")
AT_ONCE = {"rows": 1}


def writer(server: EmotionServer) -> psutil.Process:
    """Return the process that writes the log."""
    [found] = [one for one in server.processes() if any("libarrow" in part.path for part in one.memory_maps())]
    return found


def wait_for(folder: Path, rows: int) -> pa.Table:
    """Return the log once it has so many rows."""
    wait_until(lambda: list(folder.glob("*.parquet")) and len(read(folder)) >= rows)
    return read(folder)


def test_log_holds_predictions_and_nothing_else(tmp_path: Path, model: Path) -> None:
    folder, began = tmp_path / "log", datetime.now(UTC)
    with emotion_server(tmp_path / "server", "--model", model, "--log-predictions", folder) as server:
        [first] = server.predict(WAV)
        [worker] = server.workers()
        worker.kill()  # loses no row
        server.ask(records(MP3), {"Content-Type": "application/json", "X-Request-Id": "secret-caller-7"})
        assert server.ask(records(b"no audio"))[0] == 400
        assert list(folder.glob("*.parquet")) == []  # it gathers rows

    rows = wait_for(folder, 2).to_pylist()
    recognizer = Recognizer.load(model)
    assert first["confidence"] == recognizer.predict(WAV).confidence  # to the bit: the samples are those of the file
    for row, recording in zip(rows, (WAV, MP3), strict=True):
        known = asdict(describe(decode(recording)))
        assert {name: row[name] for name in known} == pytest.approx(known, rel=1e-6)
        assert row["label"] == recognizer.predict(recording).label
        assert row["package_digest"] == recognizer.package.digest
    assert {row["hour"] for row in rows} <= {
        moment.replace(minute=0, second=0, microsecond=0) for moment in (began, datetime.now(UTC))
    }
    [file] = folder.iterdir()
    assert pq.read_schema(file).remove_metadata() == schema()
    for private in ("secret-caller-7", "127.0.0.1", str(tmp_path)):
        assert private not in json.dumps(rows, default=str)
        assert private.encode() not in file.read_bytes()


@pytest.mark.slow
def test_killed_writer_is_replaced(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "log"
    options = ("--model", model, "--log-predictions", folder)
    with emotion_server(tmp_path / "server", *options, log=AT_ONCE) as server:
        server.predict(WAV)
        wait_for(folder, 1)
        first = writer(server)
        first.kill()
        # answered all the while
        wait_until(lambda: server.predict(WAV) and len(read(folder)) >= 2)

        assert writer(server).pid != first.pid
        assert [line["level"] for line in server.events("log writer ended")] == ["error"]


def test_killed_server_loses_no_row(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "log"
    with emotion_server(tmp_path / "server", "--model", model, "--log-predictions", folder) as server:
        for _ in range(3):
            server.predict(WAV)
        process = writer(server)
        server.process.kill()
        process.wait(60)

        assert len(read(folder)) == 3
        assert [path.name for path in folder.iterdir() if path.suffix != ".parquet"] == []


def test_full_disk_delays_no_response(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "log"
    options = ("--model", model, "--log-predictions", folder)
    with emotion_server(tmp_path / "server", *options, log=AT_ONCE) as server:
        folder.rmdir()
        folder.write_text("")
        server.predict(WAV)

        assert server.wait_for("log rows lost")
        assert server.predict(WAV)


def test_unwritable_folder(tmp_path: Path, model: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(AssertionError, match="file: cannot write a log there"),
        emotion_server(tmp_path / "server", "--model", model, "--log-predictions", tmp_path / "file"),
    ):
        pass
