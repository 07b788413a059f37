"""Every format and coding that libsndfile can write here, unfinished headers, tags, and random damage."""

import io
import struct

import numpy as np
import pytest
import soundfile

from helpers.recordings import LOSSY, codings, encoded, lossy, loudest_hertz, tone
from speech_emotion.audio.decode import AudioError, decode

SECONDS = 0.4


CODINGS = codings(SECONDS)
READ = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "FLAC", "OGG", "MP3", "AU", "CAF", "NIST"}
"""Containers that are supported; all others have to be refused."""


@pytest.mark.parametrize("name", CODINGS)
def test_every_libsndfile_coding(name: str) -> None:
    if name.split()[0] not in READ:
        with pytest.raises(AudioError, match="is not audio that can be read"):
            decode(CODINGS[name])
        return

    sound = decode(CODINGS[name])

    assert (sound.channels, sound.truncated) == (1, False)
    assert sound.seconds == pytest.approx(SECONDS, abs=0.05)
    assert loudest_hertz(sound.samples[:, 0], sound.sample_rate) == pytest.approx(220, abs=5)
    if name.split()[1] in ("PCM_16", "PCM_24", "FLOAT"):
        np.testing.assert_allclose(sound.samples[:, 0], tone(SECONDS), atol=1 / 32767)


def test_all_supported_containers_are_written() -> None:
    assert {name.split()[0] for name in CODINGS} >= READ
    assert len(CODINGS) >= 140


@pytest.mark.parametrize("size", [0, 36, 4088, 0x7FFF0000, 0x7FFFFFFF, 0x80000000 - 44, 0xFFFFFFFF, 2**64 - 1])
@pytest.mark.parametrize("container", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF"])
def test_unfinished_header_is_read_to_the_end(container: str, size: int) -> None:
    whole = encoded(tone(SECONDS), container, "PCM_16")
    at, form = {
        "WAV": (whole.find(b"data") + 4, "<I"),
        "RF64": (28, "<Q"),
        "W64": (whole.find(b"data") + 16, "<Q"),
        "AIFF": (whole.find(b"SSND") + 4, ">I"),
        "AU": (8, ">I"),
        "CAF": (whole.find(b"data") + 4, ">Q"),  # 2**64 - 1 is -1, the size that CAF's specification calls unknown
    }[container]
    content = bytearray(whole)
    struct.pack_into(form, content, at, size & 0xFFFFFFFF if form.endswith("I") else size)

    sound = decode(bytes(content))

    np.testing.assert_array_equal(sound.samples, decode(whole).samples)
    assert not sound.truncated


@pytest.mark.parametrize("container", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF"])
def test_killed_recorder(container: str) -> None:
    file = io.BytesIO()
    recorder = soundfile.SoundFile(file, "w", 16000, 1, format=container, subtype="PCM_16")
    recorder.write(tone(SECONDS))

    np.testing.assert_array_equal(decode(file.getvalue()).samples[:, 0], decode(encoded(tone(SECONDS))).samples[:, 0])
    recorder.close()


@pytest.mark.parametrize(
    ("container", "chunk"),
    [
        ("WAV", b"LIST" + struct.pack("<I", 400)),
        ("W64", b"levl\xf3\xac\xd3\x11\x8c\xd1\0\xc0O\x8e\xdb\x8a" + struct.pack("<Q", 424)),
        ("CAF", b"info" + struct.pack(">Q", 400)),
    ],
)
def test_chunk_after_the_audio_is_not_read(container: str, chunk: bytes) -> None:
    empty, short = encoded(np.zeros(0, np.float32), container), encoded(tone(0.01)[:152], container)

    assert decode(short + chunk + bytes(400)).samples.shape == (152, 1)
    with pytest.raises(AudioError, match="holds no sound"):
        decode(empty + chunk + bytes(400))


@pytest.mark.parametrize("tags", [1, 2])
@pytest.mark.parametrize("container", ["WAV", "AIFF", "FLAC", "AU"])
def test_skips_tags_before_audio(container: str, tags: int) -> None:
    content = encoded(tone(SECONDS), container, "PCM_16")
    tag = b"ID3\x03\0\0" + bytes([0, 0, 1, 2]) + b"RIFF" + bytes(126)

    np.testing.assert_array_equal(decode(tags * tag + content).samples, decode(content).samples)


def test_damage_raises_nothing_but_audio_errors() -> None:
    rng = np.random.default_rng(5)
    for original in [lossy(name, SECONDS) for name in LOSSY] + list(CODINGS.values()):
        for _ in range(6):
            damaged = np.frombuffer(original, np.uint8).copy()
            places = rng.integers(0, min(len(damaged), int(rng.choice([100, 10**9]))), rng.integers(1, 20))
            damaged[places] = rng.integers(0, 256, len(places))
            try:
                sound = decode(damaged.tobytes()[: rng.integers(1, len(damaged) + 1)], max_seconds=60)
            except AudioError:
                continue
            assert np.isfinite(sound.samples).all()
