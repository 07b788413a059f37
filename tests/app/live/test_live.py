import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from helpers import recordings
from speech_emotion.app.live.screen import Lines, listen, said
from speech_emotion.app.live.sources import BLOCK_SECONDS, Block, Microphone, Played
from speech_emotion.app.live.stream import Moment, Stream
from speech_emotion.audio.decode import load as decode
from speech_emotion.config.serving import WindowSettings
from speech_emotion.core.errors import UserError
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.windows import WindowedRecognizer

SETTINGS = WindowSettings(seconds=1.0, hop_seconds=0.4)


def blocks(samples: np.ndarray, size: int) -> Iterator[Block]:
    for start in range(0, len(samples), size):
        yield Block(samples[start : start + size], 0.0)


def follow(recognizer: Recognizer, samples: np.ndarray, size: int = 800) -> list[Moment]:
    stream = Stream(recognizer, SETTINGS, recordings.RATE)
    moments = [moment for block in blocks(samples, size) for moment in stream.feed(block)]
    return [*moments, *stream.finish()]


@pytest.mark.parametrize("seconds", [1.3, 1.8, 2.0, 4.13])
@pytest.mark.parametrize("size", [37, 800, 30_000])
def test_live_windows_are_those_of_the_file(recognizer: Recognizer, seconds: float, size: int) -> None:
    wave = recordings.tone(seconds)

    moments = follow(recognizer, wave, size)

    expected = WindowedRecognizer(recognizer, SETTINGS)(wave, recordings.RATE).windows
    assert [(one.start, one.end) for one in moments] == [(one.start, one.end) for one in expected]
    for one, other in zip(moments, expected, strict=True):
        assert one.prediction is not None
        assert one.prediction.probabilities == pytest.approx(other.prediction.probabilities, abs=1e-5)


def test_silence_has_a_reason(recognizer: Recognizer) -> None:
    moments = follow(recognizer, np.zeros(2 * recordings.RATE, np.float32))

    assert {said(moment) for moment in moments} == {"no answer"}
    assert moments[0].reason == "is silent (never louder than -80 dBFS)"


def test_plays_whole_recording(tmp_path: Path) -> None:
    (tmp_path / "clip.ogg").write_bytes(recordings.lossy("Ogg Opus", 0.3))

    found = list(Played(tmp_path / "clip.ogg", 8000))

    samples = np.concatenate([block.samples for block in found])
    np.testing.assert_array_equal(samples, decode(tmp_path / "clip.ogg", 8000))
    assert len(found[0].samples) == BLOCK_SECONDS * 8000
    assert found[-1].arrived - found[0].arrived == pytest.approx(0.25, abs=0.06)


def test_names_unusable_source(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no voice")

    with pytest.raises(UserError, match=r"bad\.wav: is not audio"):
        Played(tmp_path / "bad.wav", 8000)
    with pytest.raises(UserError, match=r"No such microphone|PortAudio"):
        Microphone("a microphone of this name there is not")


def test_missing_portaudio(tmp_path: Path) -> None:
    # in front of the real module, as on a machine without the library
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    code = "from speech_emotion.app.live.sources import Microphone; Microphone()"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": f"{tmp_path}"}
    )

    assert "apt install libportaudio2" in done.stderr.splitlines()[-1]


def test_summary_counts_answers(recognizer: Recognizer, tmp_path: Path) -> None:
    wave = np.concatenate([recordings.tone(1.0), np.zeros(2 * recordings.RATE, np.float32)])
    (tmp_path / "clip.wav").write_bytes(recordings.encoded(wave))

    summary = listen(Played(tmp_path / "clip.wav", recordings.RATE), recognizer, SETTINGS, Lines("clip"))

    assert re.fullmatch(r"6 answers: \w+ 3, no answer 3; median latency [\d.]+ ms", summary)
