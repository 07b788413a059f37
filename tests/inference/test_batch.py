import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import psutil
import pyarrow.parquet as pq
import pytest

from helpers import recordings
from helpers.emotion_server import wait_until
from helpers.tiny_package import ENROLLED, LABELS, make_package
from speech_emotion.audio.decode import Sound
from speech_emotion.config.monitoring import MonitorSettings
from speech_emotion.config.params import RaySettings
from speech_emotion.core.errors import UserError
from speech_emotion.inference import batch
from speech_emotion.inference.batch import CHUNK, FEW, BatchRow, FileFormat, Watch, predict_into
from speech_emotion.inference.profile import Profiles
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.monitoring.prediction_log import Logbook, read

pytest_plugins = ("helpers.cluster_fixtures",)


class KilledError(BaseException):
    """Stands for a kill that this process survives."""


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """A hundred files, every tenth of which is not a recording."""
    folder = tmp_path / "clips"
    folder.mkdir()
    good = recordings.encoded(recordings.tone(0.3))
    paths = [folder / f"{number:03}.wav" for number in range(100)]
    for number, path in enumerate(paths):
        path.write_bytes(b"no audio" if number % 10 == 3 else good)
    return paths


def cut_off(after: int) -> Watch:
    """Interrupt after this many recordings."""

    def watch(found: Iterable[BatchRow], _: int) -> Iterator[BatchRow]:
        for number, row in enumerate(found):
            if number == after:
                raise KilledError
            yield row

    return watch


def counted(seen: list[BatchRow]) -> Watch:
    def watch(found: Iterable[BatchRow], _: int) -> Iterator[BatchRow]:
        for row in found:
            seen.append(row)
            yield row

    return watch


def paths_in(output: Path) -> list[str]:
    with open(output, newline="") as file:
        return [row["path"] for row in csv.DictReader(file)]


def test_all_formats_have_the_same_rows(tmp_path: Path, recognizer: Recognizer, clips: list[Path]) -> None:
    for format in get_args(FileFormat):
        predict_into(tmp_path / f"out.{format}", format, recognizer, clips)

    with open(tmp_path / "out.csv", newline="") as file:
        by_csv = [{**row, "sure": row["sure"] == "true"} for row in csv.DictReader(file)]
    by_json = json.loads((tmp_path / "out.json").read_text())
    by_parquet = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(by_csv) == len(by_json) == len(by_parquet) == 90
    expected = recognizer.predict(clips[0])
    for row in (by_csv[0], {**by_json[0], **by_json[0]["probabilities"]}, by_parquet[0]):
        assert (row["path"], row["label"], row["sure"]) == (str(clips[0]), expected.label, True)
        for label in LABELS:
            assert float(row[label]) == pytest.approx(expected.probabilities[label], abs=1e-6)


def test_interrupted_run_resumes(tmp_path: Path, recognizer: Recognizer, clips: list[Path]) -> None:
    whole, output = tmp_path / "whole.csv", tmp_path / "out.csv"
    seen: list[BatchRow] = []
    resumed: list[int] = []
    predict_into(whole, "csv", recognizer, clips)

    for after in (70, 10):
        with pytest.raises(KilledError):
            predict_into(output, "csv", recognizer, clips, watch=cut_off(after))
        assert not output.exists()
    bad = predict_into(output, "csv", recognizer, clips, watch=counted(seen), resumed=resumed.append)

    assert resumed == [70 // CHUNK * CHUNK]
    assert [row.path for row in seen] == [str(path) for path in clips[resumed[0] :]]
    assert output.read_bytes() == whole.read_bytes()
    assert len(bad) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "out.csv", "whole.csv"]


def test_profiles_in_processes_and_after_resuming(tmp_path: Path, clips: list[Path]) -> None:
    recognizer = Recognizer(make_package(tmp_path / "package", enrolled=ENROLLED))
    profile = recognizer.enroll([recordings.tone(5.0)], recordings.RATE)
    profiles, output = Profiles(named={"clips": profile}), tmp_path / "out.csv"
    paths = [*clips[:3], *clips[4:13]] * (FEW // 10)

    with pytest.raises(KilledError):
        predict_into(output, "csv", recognizer, paths, watch=cut_off(2 * CHUNK), workers=2, profiles=profiles)
    resumed: list[int] = []
    predict_into(output, "csv", recognizer, paths, resumed=resumed.append, workers=2)
    assert resumed == []  # another job: it has no profiles

    with pytest.raises(KilledError):
        predict_into(output, "csv", recognizer, paths, watch=cut_off(2 * CHUNK), profiles=profiles)
    predict_into(output, "csv", recognizer, paths, resumed=resumed.append, workers=2, profiles=profiles)

    assert resumed == [2 * CHUNK]
    expected = recognizer.with_profile(profile).predict(clips[0])
    assert expected.confidence != pytest.approx(recognizer.predict(clips[0]).confidence, abs=1e-3)
    with open(output, newline="") as file:
        found = [(row["label"], float(row["confidence"])) for row in csv.DictReader(file)]
    assert found == [(expected.label, pytest.approx(expected.confidence, abs=1e-5))] * len(paths)


def test_incomplete_journal_line_is_repeated(tmp_path: Path, recognizer: Recognizer, clips: list[Path]) -> None:
    output = tmp_path / "out.csv"
    resumed: list[int] = []
    with pytest.raises(KilledError):
        predict_into(output, "csv", recognizer, clips, watch=cut_off(2 * CHUNK))
    [journal] = tmp_path.glob(".out.csv.*.journal")
    journal.write_bytes(journal.read_bytes()[:-20])

    predict_into(output, "csv", recognizer, clips, resumed=resumed.append)

    assert resumed == [2 * CHUNK - 1]
    assert len(set(paths_in(output))) == len(paths_in(output)) == 90


def test_other_recordings_or_model_start_anew(tmp_path: Path, recognizer: Recognizer, clips: list[Path]) -> None:
    output = tmp_path / "out.csv"
    resumed: list[int] = []
    other = Recognizer(make_package(tmp_path / "other", seed=4))
    with pytest.raises(KilledError):
        predict_into(output, "csv", recognizer, clips, watch=cut_off(50))
    with pytest.raises(KilledError):
        predict_into(output, "csv", other, clips, watch=cut_off(50), resumed=resumed.append)
    clips[0].write_bytes(recordings.encoded(recordings.tone(0.4)))

    predict_into(output, "csv", other, clips, resumed=resumed.append)

    assert resumed == []
    assert list(tmp_path.glob(".*.journal")) == []


def test_second_process_is_refused(tmp_path: Path, recognizer: Recognizer, clips: list[Path]) -> None:
    output = tmp_path / "out.csv"

    def again(found: Iterable[BatchRow], _: int) -> Iterable[BatchRow]:
        with pytest.raises(UserError, match="another process writes the same output"):
            predict_into(output, "csv", recognizer, clips)
        return found

    predict_into(output, "csv", recognizer, clips, watch=again)

    assert len(paths_in(output)) == 90


def test_unwritable_output_is_named(tmp_path: Path, recognizer: Recognizer, clips: list[Path]) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()

    with pytest.raises(UserError, match=r"out\.csv: cannot be written"):
        predict_into(tmp_path / "file" / "out.csv", "csv", recognizer, clips)
    with pytest.raises(UserError, match=r"folder: is a folder; --output needs a file"):
        predict_into(tmp_path / "folder", "csv", recognizer, clips)
    assert os.listdir(tmp_path / "folder") == []


def test_full_disk_can_be_resumed(tmp_path: Path, recognizer: Recognizer, clips: list[Path]) -> None:
    output = tmp_path / "out.csv"
    arguments = ["predict", str(clips[0].parent), "--output", str(output), "--model", str(recognizer.package.folder)]
    command = [sys.executable, "-m", "speech_emotion", *arguments]

    # files are limited to a few kB: enough for a chunk of rows, not for bytecode
    limited = ["sh", "-c", 'ulimit -f 16; PYTHONDONTWRITEBYTECODE=1 exec "$@"', "sh", *command]
    full = subprocess.run(limited, capture_output=True, text=True)

    assert full.returncode == 1
    why = "cannot be written (File too large). Run the same command again to resume."
    assert full.stderr == f"error: {output}: {why}\n"
    assert not output.exists()
    again = subprocess.run(command, capture_output=True, text=True)
    assert " of 100 recordings" in again.stderr
    assert len(paths_in(output)) == 90


def test_several_processes_give_equal_rows(recognizer: Recognizer, clips: list[Path]) -> None:
    many = [*clips, *clips, *clips]
    assert len(many) > FEW

    together = list(batch.rows(recognizer, many, workers=2))

    assert together == 3 * list(batch.rows(recognizer, clips))


class DeadlyLog(Logbook):
    """A log whose process dies, as a decoder's might, when it receives the longest recording."""

    def measure(self, sound: Sound) -> Any:
        if sound.seconds > 0.4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().measure(sound)


def test_crashing_recording_costs_no_other(tmp_path: Path, recognizer: Recognizer, clips: list[Path]) -> None:
    deadly = tmp_path / "deadly.wav"
    deadly.write_bytes(recordings.encoded(recordings.tone(0.5)))
    many = [*clips, *clips, *clips]
    many.insert(150, deadly)

    answered = list(batch.rows(recognizer, many, workers=2, log=DeadlyLog(tmp_path, MonitorSettings().log)))

    assert answered.pop(150) == BatchRow(str(deadly), "crashed the process that decoded it")
    expected = 3 * list(batch.rows(recognizer, clips))
    for row, other in zip(answered, expected, strict=True):
        assert (row.path, row.reason, row.label) == (other.path, other.reason, other.label)
    # a batch of one differs in the last bits
    assert [row.confidence for row in answered] == pytest.approx([row.confidence for row in expected], abs=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cluster_with_killed_node_gives_equal_rows(
    tmp_path: Path, recognizer: Recognizer, clips: list[Path], cluster: Any, kill_another: Callable[[list[Any]], None]
) -> None:
    many = [tmp_path / "many" / f"{number:04}.wav" for number in range(20 * len(clips))]
    many[0].parent.mkdir()
    for number, path in enumerate(many):
        path.symlink_to(clips[number % len(clips)])
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    seen = 0

    def watch(found: Iterable[BatchRow], _: int) -> Iterator[BatchRow]:
        nonlocal seen
        for seen, row in enumerate(found, start=1):
            if seen == 4 * CHUNK:
                kill_another(nodes)
            yield row

    remote = RaySettings(address=cluster.address)
    bad = predict_into(tmp_path / "out.csv", "csv", recognizer, many, cluster=remote, watch=watch)

    predict_into(tmp_path / "here.csv", "csv", recognizer, many, workers=1)
    assert seen == len(many)
    assert len(bad) == len(many) // 10
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_files_killed_twice(tmp_path: Path, tess_dir: Path) -> None:
    folder, output = tmp_path / "many", tmp_path / "out.csv"
    folder.mkdir()
    utterances = sorted(tess_dir.rglob("*.wav"))[:1000]
    for number in range(2000):
        (folder / f"{number:05}.wav").symlink_to(utterances[number % 1000])
    (folder / "bad.wav").write_bytes(b"no audio")

    answered = 0
    for _ in range(2):
        answered = kill_after(answered + 200, folder, output)
        assert not output.exists()
    done = subprocess.run(command(folder, output), capture_output=True, text=True)

    assert done.returncode == 1
    assert f"resuming after {answered} of 2001 recordings" in done.stderr
    assert "1 of 2001 recordings could not be used:" in done.stderr
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(folder / f"{number:05}.wav") for number in range(2000)]
    assert [row["label"] for row in rows[:1000]] == [row["label"] for row in rows[1000:]]


def command(folder: Path, output: Path) -> list[str]:
    options = ["--output", str(output), "--workers", "2"]
    return [sys.executable, "-m", "speech_emotion", "predict", str(folder), *options]


def kill_after(count: int, folder: Path, output: Path) -> int:
    """Kill the command once so many recordings are in its journal; return how many are complete."""
    process = subprocess.Popen(command(folder, output), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: lines(output) >= count)
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    return lines(output)


def lines(output: Path) -> int:
    return sum(journal.read_bytes().count(b"\n") for journal in output.parent.glob(f".{output.name}.*.journal"))


def test_interrupted_run_logs_each_recording_once(tmp_path: Path, recognizer: Recognizer, clips: list[Path]) -> None:
    output, log = tmp_path / "out.csv", tmp_path / "log"
    log.mkdir()
    predict_into(tmp_path / "plain.csv", "csv", recognizer, clips)

    with pytest.raises(KilledError):
        predict_into(output, "csv", recognizer, clips, watch=cut_off(70), log=Logbook(log, MonitorSettings().log))
    assert list(log.iterdir()) == []
    predict_into(output, "csv", recognizer, clips, log=Logbook(log, MonitorSettings().log))

    assert output.read_bytes() == (tmp_path / "plain.csv").read_bytes()
    assert len(read(log)) == 90
