import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import soxr

from speech_emotion.app import examples
from speech_emotion.inference.windows import WindowedRecognizer
from speech_emotion.registry.model_resolution import load

pytestmark = pytest.mark.slow

RATE = 44100
"""Hz; the default of ALSA devices."""

DEVICES = """
pcm.voice {{
  type file
  slave.pcm {{ type null }}
  file /dev/null
  infile {recording}
  format raw
}}
pcm.!default {{ type plug slave.pcm "voice" }}
"""
"""An ALSA microphone that reads a file, faster than real time."""


@pytest.mark.skipif(sys.platform != "linux", reason="ALSA is Linux's")
def test_microphone(tmp_path: Path) -> None:
    voice = examples.speak("changing", tmp_path)
    samples, rate = soundfile.read(voice, dtype="float32")
    # some more of it, so that the device goes on until it is stopped
    soxr.resample(samples, rate, RATE).astype("<f4").tofile(tmp_path / "voice.raw")
    (tmp_path / "voice.raw").write_bytes((tmp_path / "voice.raw").read_bytes() * 50)
    (tmp_path / "alsa.conf").write_text(DEVICES.format(recording=tmp_path / "voice.raw"))

    process = subprocess.Popen(
        [sys.executable, "-m", "speech_emotion", "listen"],
        cwd=tmp_path,
        env={**os.environ, "ALSA_CONFIG_PATH": str(tmp_path / "alsa.conf")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline().split("\t") for _ in range(4)]
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)

    expected = WindowedRecognizer(load())(voice).windows[:4]
    assert process.returncode == 0, told
    assert [float(line[0]) for line in lines] == [window.start for window in expected]
    assert [line[2].removesuffix(", not sure") for line in lines] == [
        window.prediction.label.replace("_", " ") for window in expected
    ]
    assert [float(line[3]) for line in lines] == pytest.approx([w.prediction.confidence for w in expected], abs=0.05)
    assert "Traceback" not in told
    assert "median latency" in told
