import signal
from pathlib import Path

from helpers import recordings
from helpers.terminal import Command, terminal
from helpers.tiny_package import LABELS


def test_pipe_gets_a_line_per_window(in_process: Command, model: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(recordings.encoded(recordings.tone(0.8)))

    done = in_process("listen", "--file", "clip.wav", "--model", model)

    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    start, end, label, share, latency = line.split("\t")
    assert (start, end, label in LABELS, 0 < float(share) <= 1) == ("0.00", "0.80", True, True)
    assert latency.endswith(" ms")
    assert done.stderr.splitlines()[0] == f"clip.wav: {model}"
    assert done.stderr.splitlines()[1].startswith("1 answers: ")


def test_wrong_options(in_process: Command, model: Path) -> None:
    assert "--file and --device" in in_process("listen", "--file", "a.wav", "--device", "b").stderr
    assert "must be at most 3" in in_process("listen", "--file", "a.wav", "--every", "5", "--model", model).stderr


def test_terminal_gets_bars_until_ctrl_c(model: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(recordings.encoded(recordings.tone(60.0)))
    options = ["--file", str(tmp_path / "clip.wav"), "--model", str(model), "--every", "0.2"]

    with terminal("-m", "speech_emotion", "listen", *options) as started:
        shown = started.read("latency")
        started.process.send_signal(signal.SIGINT)
        shown += started.read()

    assert all(label in shown for label in LABELS)
    assert "█" in shown
    assert "Traceback" not in shown
    assert "median latency" in shown
    assert shown.rstrip().endswith("ms")
