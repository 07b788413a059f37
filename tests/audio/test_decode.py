"""Decoding of files, bytes and arrays; test_codings.py covers every coding of libsndfile."""

import io
import subprocess
import sys
import tracemalloc
from pathlib import Path

import av
import librosa
import numpy as np
import pytest

from helpers.irregular import IRREGULAR
from helpers.recordings import BAD, LOSSY, RATE, encoded, lossy, loudest_hertz, tone, with_flac_length
from speech_emotion.audio.decode import AudioError, decode, from_array, load


@pytest.mark.parametrize("name", LOSSY)
def test_codings_of_phones_and_browsers(name: str) -> None:
    rate = LOSSY[name][3]

    sound = decode(lossy(name, 2.0))

    assert (sound.sample_rate, sound.channels, sound.truncated) == (rate, 1, False)
    assert sound.seconds == pytest.approx(2.0, abs=0.1)
    assert loudest_hertz(sound.samples[:, 0], rate) == pytest.approx(220, abs=3)


@pytest.mark.parametrize("name", BAD)
def test_rejects_unusable_files(name: str, tmp_path: Path) -> None:
    make, reason = BAD[name]
    path = tmp_path / "recording.wav"
    path.write_bytes(make())

    for source in (path.read_bytes(), path):
        with pytest.raises(AudioError) as error:
            decode(source, max_seconds=10.0)
        assert str(error.value).startswith(reason)


@pytest.mark.parametrize("suffix", [".wav", ".raw", ".mp3", ".gsm", ""])
@pytest.mark.parametrize("name", LOSSY)
def test_name_does_not_matter(name: str, suffix: str, tmp_path: Path) -> None:
    recording = lossy(name, 0.5)
    path = tmp_path / f"recording{suffix}"
    path.write_bytes(recording)

    np.testing.assert_array_equal(decode(path).samples, decode(recording).samples)
    np.testing.assert_array_equal(decode(str(path)).samples, decode(recording).samples)


def test_rejects_missing_and_irregular_files(tmp_path: Path) -> None:
    (tmp_path / "link.wav").symlink_to(IRREGULAR["a named pipe"](tmp_path / "pipe.wav"))

    with pytest.raises(AudioError, match=r"^cannot be read \(a named pipe, not a regular file\)$"):
        decode(tmp_path / "link.wav")
    with pytest.raises(AudioError, match=r"^does not exist$"):
        decode(tmp_path / "nothing.wav")
    with pytest.raises(AudioError, match=r"^cannot be read"):
        decode("a\0b")


@pytest.mark.parametrize("container", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF"])
def test_half_a_file_is_truncated(container: str) -> None:
    recording = encoded(tone(), container)

    sound = decode(recording[: len(recording) // 2])

    assert sound.truncated
    assert sound.declared_frames == pytest.approx(RATE, abs=2)
    assert len(sound.samples) < 0.51 * RATE
    assert decode(recording[:-2]).truncated
    webm = lossy("WebM, Opus", 2.0)
    assert decode(webm[: len(webm) // 2]).truncated


def test_flac_of_unknown_length() -> None:
    sound = decode(with_flac_length(encoded(tone(), "FLAC"), 0), max_seconds=2)

    np.testing.assert_array_equal(sound.samples, decode(encoded(tone(), "FLAC")).samples)


@pytest.fixture(scope="module")
def hour() -> bytes:
    """An hour of nothing, which FLAC packs into little."""
    flac = encoded(np.zeros(3600 * RATE, np.int16), "FLAC")
    assert len(flac) < 500_000
    return flac


@pytest.mark.parametrize("says", [0, 3600 * RATE])
def test_long_flac_takes_little_memory(hour: bytes, says: int) -> None:
    recording = with_flac_length(hour, says)

    tracemalloc.start()
    with pytest.raises(AudioError, match=r"^is longer than 60 s$"):
        decode(recording, max_seconds=60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 40e6


def test_header_of_terabytes_takes_no_memory() -> None:
    with pytest.raises(AudioError, match=r"^holds more than 67108864 samples"):
        decode(with_flac_length(encoded(tone(), "FLAC"), 2**36 - 1))


def test_sixteen_channels_keep_their_order() -> None:
    samples = np.stack([np.full(4000, n / 32, np.float32) for n in range(16)], axis=1)
    wav = encoded(samples, "WAVEX", "FLOAT")
    file = io.BytesIO()
    with av.open(io.BytesIO(wav)) as source, av.open(file, "w", format="matroska") as target:
        track = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = track
                target.mux(packet)

    np.testing.assert_array_equal(decode(file.getvalue()).samples, samples)


@pytest.mark.parametrize("right", [-1.0, -0.999])
def test_rejects_channels_that_cancel(right: float) -> None:
    with pytest.raises(AudioError, match="its channels cancel each other"):
        decode(encoded(np.stack([tone(), right * tone()], axis=1)))


def test_stereo_becomes_its_mean() -> None:
    left, right = tone(hertz=200), tone(hertz=330)

    mono = load(encoded(np.stack([left, right], axis=1), coding="FLOAT"), RATE)

    np.testing.assert_allclose(mono, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 24414, 44100, 48000, 96000])
def test_resamples_like_librosa(rate: int) -> None:
    samples = tone(rate=rate)

    mine = load(encoded(samples, coding="FLOAT", rate=rate), RATE)

    np.testing.assert_allclose(mine, librosa.resample(samples, orig_sr=rate, target_sr=RATE), atol=1e-6)
    assert mine.dtype == np.float32


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, np.float32, np.float64])
def test_array_of_every_sample_type(kind: type) -> None:
    whole = {np.int16: 32768, np.int32: 2**31, np.uint8: 128}
    samples = tone().astype(np.float64)
    stored = np.round(samples * whole[kind] + (128 if kind is np.uint8 else 0)) if kind in whole else samples

    sound = from_array(stored.astype(kind), RATE)

    assert sound.samples.dtype == np.float32
    np.testing.assert_allclose(sound.samples[:, 0], tone(), atol=1 / 128 if kind is np.uint8 else 1 / 32767)


@pytest.mark.parametrize(
    ("array", "rate", "reason"),
    [
        (np.zeros((2, 2, 2)), RATE, "is an array of shape"),
        (np.zeros((2, 16000)), RATE, r"is an array of shape \(2, 16000\); expected time first"),
        (np.array(["a"]), RATE, "is an array of <U1; expected floats or integers"),
        (np.zeros(0), RATE, "holds no sound"),
        (np.full(9, np.nan), RATE, "holds samples that are not numbers"),
        (np.full(9, 1e300), RATE, "holds samples that are not numbers"),
        (np.zeros(9), 1, "has a sample rate of 1 Hz"),
        (np.zeros((99, 33)), RATE, "has 33 channels"),
        (np.zeros(11 * RATE, np.int16), RATE, "is longer than 10 s"),
    ],
)
def test_rejects_other_arrays(array: np.ndarray, rate: int, reason: str) -> None:
    with pytest.raises(AudioError, match=f"^{reason}"):
        from_array(array, rate, max_seconds=10)


def test_wav_needs_no_ffmpeg(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(tone()))
    program = (
        "import sys; from speech_emotion.audio.decode import load; load(sys.argv[1], 16000); print('av' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
