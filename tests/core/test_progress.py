import os
import pty
import subprocess
import sys

PROGRAM = """
from speech_emotion.core.progress import track

assert list(track(iter("abc"), 3, "featurize", "recordings")) == ["a", "b", "c"]
"""


def test_a_terminal_sees_how_many_of_how_many_are_done() -> None:
    terminal, inside = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "90"}
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=inside, env=environment, check=True)
    os.close(inside)

    shown = os.read(terminal, 65536).decode()
    os.close(terminal)

    assert all(text in shown for text in ("featurize", "3/3", "recordings", "━"))


def test_a_file_that_a_stage_writes_to_sees_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)

    assert (done.stdout, done.stderr) == (b"", b"")
