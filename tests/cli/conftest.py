"""What the commands' tests share: recordings, and the command line as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.recordings import encoded, lossy, tone
from helpers.terminal import Command
from speech_emotion.cli import app


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder of three good recordings, one bad one, and what is none."""
    folder = tmp_path / "clips"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.wav").write_bytes(encoded(tone()))
    (folder / "b.webm").write_bytes(lossy("WebM, Opus"))
    (folder / "deeper" / "c.FLAC").write_bytes(encoded(tone(), "FLAC"))
    (folder / "deeper" / "bad.mp3").write_bytes(b"no audio")
    (folder / "notes.txt").write_text("no recording")
    (folder / ".hidden.wav").write_bytes(b"")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.wav").write_bytes(b"")
    return folder


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs `speech-emotion` in an empty folder, in a process of its own."""

    def run(*arguments: object, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "speech_emotion", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "COLUMNS": "100", **environment},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    return run


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs the command line in this process, which has imported already what is slow to import."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(app, [*map(str, arguments)])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run
