import os
import pty
import subprocess
import sys

PROGRAM = """
from speech_emotion.core.progress import track

assert list(track(iter("abc"), 3, "featurize", "recordings")) == ["a", "b", "c"]
"""


def test_terminal_shows_a_bar() -> None:
    terminal, inside = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "90"}
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=inside, env=environment, check=True)
    os.close(inside)

    shown = os.read(terminal, 65536).decode()
    os.close(terminal)

    assert all(text in shown for text in ("featurize", "3/3", "recordings", "━"))


def test_file_shows_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)

    assert (done.stdout, done.stderr) == (b"", b"")
