import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.irregular import IRREGULAR
from helpers.terminal import Command
from helpers.tiny_package import LABELS


def test_bad_recordings_are_listed(in_process: Command, model: Path, clips: Path) -> None:
    done = in_process("predict", clips, "missing.wav", "--model", model)

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


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("json", "[]\n"),
        ("csv", "path,label,confidence,sure,angry,happy,sad\n"),
        ("table", "recording\temotion\tconfidence\tnext best\n"),
    ],
)
def test_empty_folder(in_process: Command, model: Path, tmp_path: Path, format: str, expected: str) -> None:
    (tmp_path / "empty").mkdir()

    done = in_process("predict", "empty", "--model", model, "--format", format)

    assert (done.returncode, done.stdout) == (1, expected)
    assert done.stderr.startswith("1 of 1 recordings could not be used:\n  empty: holds no recordings (.3gp .aac")


def test_predict_imports_no_heavy_library(root: Path, clips: Path, tmp_path: Path) -> None:
    shutil.copy(root / "params.yaml", tmp_path)  # whose corpus might have a champion in MLflow
    command = [sys.executable, "-X", "importtime", "-m", "speech_emotion", "predict", clips / "a.wav"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    lines = [line.split("|")[2] for line in done.stderr.splitlines() if line.count("|") == 2]
    imported = {line.strip().partition(".")[0] for line in lines}
    assert "onnxruntime" in imported
    heavy = ("tensorflow", "keras", "mlflow", "librosa", "pandas", "sklearn", "scipy", "matplotlib", "rich")
    assert not imported & set(heavy)
