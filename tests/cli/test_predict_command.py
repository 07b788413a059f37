import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from helpers.commands import Command
from helpers.irregular import IRREGULAR
from helpers.tiny_package import LABELS
from speech_emotion.inference.recognizer import Recognizer


def test_bad_recordings_are_listed(command: Command, model: Path, clips: Path) -> None:
    done = command("predict", clips, "missing.wav", "--model", model)

    header, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert header == ["recording", "emotion", "confidence", "next best"]
    assert [line[0] for line in lines] == [str(clips / name) for name in ("a.wav", "b.webm", "deeper/c.FLAC")]
    assert all(line[1] in LABELS and 0 < float(line[2]) <= 1 for line in lines)
    assert done.stderr.splitlines() == [
        "2 of 5 recordings could not be used:",
        f"  {clips / 'deeper' / 'bad.mp3'}: is not audio that can be read",
        "  missing.wav: does not exist",
    ]


def test_csv(command: Command, model: Path, clips: Path) -> None:
    done = command("predict", clips / "a.wav", "--model", model, "--format", "csv")

    (row,) = csv.DictReader(io.StringIO(done.stdout))
    expected = Recognizer.load(model).predict(clips / "a.wav")
    assert list(row) == ["path", "label", "confidence", "sure", *LABELS]
    assert row["label"] == expected.label
    assert {label: float(row[label]) for label in LABELS} == {
        label: round(value, 6) for label, value in expected.probabilities.items()
    }


def test_formats_without_any_prediction(command: Command, model: Path, clips: Path) -> None:
    bad = clips / "deeper" / "bad.mp3"

    assert json.loads(command("predict", bad, "--model", model, "-f", "json").stdout) == []
    assert (
        command("predict", bad, "--model", model, "-f", "csv").stdout == "path,label,confidence,sure,angry,happy,sad\n"
    )
    assert command("predict", bad, "--model", model).stdout == "recording\temotion\tconfidence\tnext best\n"


def test_folder_without_recordings(command: Command, model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    done = command("predict", "empty", "--model", model)

    assert done.returncode == 1
    assert done.stderr.startswith("1 of 1 recordings could not be used:\n  empty: holds no recordings (.3gp .aac")


def test_pipes_are_refused(in_process: Command, model: Path, clips: Path) -> None:
    pipe = IRREGULAR["a named pipe"](clips / "pipe.wav")
    (clips / "link.wav").symlink_to(pipe)

    done = in_process("predict", clips, "--model", model)

    assert len(done.stdout.splitlines()) == 4
    for name in ("link.wav", "pipe.wav"):
        assert f"{clips / name}: cannot be read (a named pipe, not a regular file)" in done.stderr


def test_names_that_are_not_text(command: Command, model: Path, clips: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(clips) + b"/odd\xff[red]\n.wav"))
    odd.write_bytes((clips / "a.wav").read_bytes())

    done = command("predict", odd, "--model", model, "--format", "json")

    assert done.returncode == 0
    assert len(json.loads(done.stdout)) == 1


def test_predict_imports_no_heavy_library(model: Path, clips: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "speech_emotion", "predict", clips / "a.wav", "-m", model]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    imported = {
        line.split("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if line.count("|") == 2
    }
    assert "onnxruntime" in imported
    heavy = ("tensorflow", "keras", "mlflow", "librosa", "pandas", "sklearn", "scipy", "matplotlib", "rich")
    assert not imported & set(heavy)
