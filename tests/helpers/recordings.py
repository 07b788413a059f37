"""Encode samples in every container, and make files that are not recordings."""

import io
import struct
from collections.abc import Callable
from contextlib import suppress

import av
import numpy as np
import soundfile

RATE = 16000


def tone(seconds: float = 1.0, *, rate: int = RATE, hertz: float = 220.0, level: float = 0.3) -> np.ndarray:
    """Return a tone with a few harmonics, swelling and fading [shape=(n,)], float32."""
    time = np.arange(round(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * hertz * n * time) / n for n in (1, 2, 3, 4))
    return (level * wave * np.sin(np.pi * time / seconds) ** 2 / 2).astype(np.float32)


def encoded(samples: np.ndarray, container: str = "WAV", coding: str | None = None, *, rate: int = RATE) -> bytes:
    """Return a recording as libsndfile writes it."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=coding)
    return file.getvalue()


def encoded_by_ffmpeg(samples: np.ndarray, container: str, codec: str, *, rate: int) -> bytes:
    """Return mono `samples` as FFmpeg writes them; `rate` must be one that the codec knows."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout, stream.bit_rate = "mono", 64_000
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.codec_context.format.name, layout="mono", rate=rate)
        for converted in resampler.resample(frame):
            output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    return file.getvalue()


LOSSY: dict[str, tuple[Callable[..., bytes], str, str | None, int]] = {
    "Ogg Vorbis": (encoded, "OGG", "VORBIS", 16000),
    "Ogg Opus": (encoded, "OGG", "OPUS", 48000),
    "MP3": (encoded, "MP3", None, 44100),
    "MP3 by FFmpeg": (encoded_by_ffmpeg, "mp3", "libmp3lame", 44100),
    "WebM, Opus": (encoded_by_ffmpeg, "webm", "libopus", 48000),
    "Matroska, AAC": (encoded_by_ffmpeg, "matroska", "aac", 44100),
    "MP4, AAC": (encoded_by_ffmpeg, "mp4", "aac", 44100),
    "M4A, ALAC": (encoded_by_ffmpeg, "ipod", "alac", 44100),
    "AAC": (encoded_by_ffmpeg, "adts", "aac", 44100),
    "3GP, AAC": (encoded_by_ffmpeg, "3gp", "aac", 44100),
    "AMR": (encoded_by_ffmpeg, "amr", "libopencore_amrnb", 8000),
    "WMA": (encoded_by_ffmpeg, "asf", "wmav2", 44100),
    "CAF, ALAC": (encoded_by_ffmpeg, "caf", "alac", 44100),
}
"""Formats of phones, browsers and messengers: encoder, container, coding and sample rate."""


def lossy(name: str, seconds: float = 1.0) -> bytes:
    """Return a tone in one of the codings of `LOSSY`."""
    write, container, coding, rate = LOSSY[name]
    return write(tone(seconds, rate=rate), container, coding, rate=rate)


def codings(seconds: float) -> dict[str, bytes]:
    """Return a tone in every container and coding that libsndfile can write here."""
    found = {}
    for container in sorted(set(soundfile.available_formats()) - {"SD2"}):  # SD2 consists of two files
        for coding in soundfile.available_subtypes(container):
            with suppress(soundfile.LibsndfileError, ValueError):  # this pair cannot be written
                found[f"{container} {coding}"] = encoded(tone(seconds), container, coding)
    return found


def loudest_hertz(samples: np.ndarray, rate: int) -> float:
    """Return the frequency with the most power."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def with_flac_length(flac: bytes, samples: int) -> bytes:
    """Return a FLAC with another number of samples in its header; 0 means unknown."""
    packed = int.from_bytes(flac[18:26], "big") >> 36 << 36 | samples
    return flac[:18] + packed.to_bytes(8, "big") + flac[26:]


def wav_header(*, channels: int = 1, rate: int = RATE, size: int = 0) -> bytes:
    """Return the header of a 16-bit WAV."""
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    return struct.pack("<4sI8sI16s4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, form, b"data", size)


def _with_sample(value: float) -> bytes:
    samples = tone()
    samples[500] = value
    return encoded(samples, coding="FLOAT")


def _video() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        output.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        output.mux(stream.encode(None))
    return file.getvalue()


_UNKNOWN = "is not audio that can be read"

BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is empty (0 bytes)"),
    "text": (lambda: b"Say the word back. " * 100, _UNKNOWN),
    "UTF-16 text": (lambda: "Say the word back. ".encode("utf-16") * 100, _UNKNOWN),
    "zeros": (lambda: bytes(10_000), _UNKNOWN),
    "noise": (lambda: np.random.default_rng(1).bytes(10_000), _UNKNOWN),
    "MP3 sync and noise": (lambda: b"\xff\xfb" + np.random.default_rng(1).bytes(5000), _UNKNOWN),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n" + np.random.default_rng(1).bytes(5000), _UNKNOWN),
    "list of other files": (lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/hostname\n", _UNKNOWN),
    "concatenation of other files": (lambda: b"ffconcat version 1.0\nfile /etc/hostname\n", _UNKNOWN),
    "RIFF alone": (lambda: b"RIFF", _UNKNOWN),
    "WAV without samples": (wav_header, "holds no sound (0 samples)"),
    "Ogg and noise": (lambda: b"OggS" + np.random.default_rng(1).bytes(500), _UNKNOWN),
    "half an MP4": (lambda: _half(lossy("MP4, AAC")), _UNKNOWN),
    "half a FLAC": (lambda: _half(encoded(tone(), "FLAC")), "is damaged or cut off"),
    "video without sound": (_video, "holds no audio track that can be read"),
    "60 channels": (lambda: encoded(np.zeros((800, 60), np.float32)), "has 60 channels; 1 to 32 can be used"),
    "1 Hz": (lambda: encoded(tone(), rate=1), "has a sample rate of 1 Hz; 1000 to 768000 Hz can be used"),
    "2 MHz": (lambda: encoded(tone(), rate=2_000_000), "has a sample rate of 2000000 Hz"),
    "NaN": (lambda: _with_sample(np.nan), "holds samples that are not numbers (NaN or infinity)"),
    "infinity": (lambda: _with_sample(-np.inf), "holds samples that are not numbers (NaN or infinity)"),
    "1e30": (lambda: _with_sample(1e30), "holds samples of 1e+30, where full scale is 1"),
    "longer than allowed": (lambda: encoded(tone(11.0)), "is longer than 10 s"),
    "longer than allowed, WebM": (lambda: lossy("WebM, Opus", 11.0), "is longer than 10 s"),
}
"""Kinds of bytes that cannot be used where at most 10 s are allowed: how they are made, and what is said of them."""


def _half(recording: bytes) -> bytes:
    return recording[: len(recording) // 2]
