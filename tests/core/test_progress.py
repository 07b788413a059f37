import subprocess
import sys

from helpers.terminal import terminal

PROGRAM = """
from speech_emotion.core.progress import track

assert list(track(iter("abc"), 3, "featurize", "recordings")) == ["a", "b", "c"]
"""


def test_terminal_shows_a_bar_and_a_file_nothing() -> None:
    with terminal("-c", PROGRAM) as started:
        shown = started.read()
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)

    assert all(text in shown for text in ("featurize", "3/3", "recordings", "━"))
    assert (done.stdout, done.stderr) == (b"", b"")
