import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

from helpers import recordings
from helpers.commands import Command
from helpers.tiny_package import LABELS


def test_pipe_gets_a_line_per_window(command: Command, model: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(recordings.encoded(recordings.tone(0.8)))

    done = command("listen", "--file", "clip.wav", "--model", model)

    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    start, end, label, share, latency = line.split("\t")
    assert (start, end, label in LABELS, 0 < float(share) <= 1) == ("0.00", "0.80", True, True)
    assert latency.endswith(" ms")
    assert done.stderr.splitlines()[0] == f"clip.wav: {model}"
    assert done.stderr.splitlines()[1].startswith("1 answers: ")


def test_wrong_options(command: Command, model: Path) -> None:
    assert "--file and --device" in command("listen", "--file", "a.wav", "--device", "b").stderr
    assert "must be at most 3" in command("listen", "--file", "a.wav", "--every", "5", "--model", model).stderr


def test_terminal_gets_bars_until_ctrl_c(model: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(recordings.encoded(recordings.tone(60.0)))
    terminal, inside = pty.openpty()
    arguments = ["listen", "--file", "clip.wav", "--model", str(model), "--every", "0.2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "speech_emotion", *arguments],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "90", "LINES": "30", "TERM": "xterm-256color"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)

    shown = read_until(terminal, "answered")
    process.send_signal(signal.SIGINT)
    shown += read_until(terminal, "median latency")

    assert process.wait(60) == 0
    assert all(label in shown for label in LABELS)
    assert "█" in shown
    assert "Traceback" not in shown
    assert shown.rstrip().endswith("ms")
    os.close(terminal)


def read_until(terminal: int, text: str, seconds: float = 120) -> str:
    """Return the output of a terminal up to a text, or the end."""
    shown = b""
    end = time.monotonic() + seconds
    while time.monotonic() < end and text not in shown.decode(errors="replace"):
        try:
            block = os.read(terminal, 65536)
        except OSError:  # Linux tells the end of a terminal so
            break
        shown += block
    return shown.decode(errors="replace")
