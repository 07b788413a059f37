"""Decode a file or bytes in any container to mono float32 samples at one sample rate.

The first bytes determine the format; the file name does not matter. libsndfile reads the formats it supports in a
fraction of a millisecond. FFmpeg (PyAV, imported only then) reads what phones, browsers and messengers record.
"""

import io
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import soundfile
import soxr

from speech_emotion.core.errors import UserError

SUPPORTED: Final = {
    "WAV": (".wav", ".wave", ".rf64", ".w64"),
    "AIFF": (".aif", ".aiff", ".aifc"),
    "FLAC": (".flac",),
    "Ogg (Opus, Vorbis)": (".ogg", ".oga", ".opus"),
    "MP3": (".mp3",),
    "MP4 (AAC, ALAC)": (".m4a", ".mp4", ".mov", ".3gp"),
    "AAC": (".aac",),
    "WebM and Matroska": (".webm", ".weba", ".mka", ".mkv"),
    "AMR": (".amr",),
    "WMA": (".wma",),
    "CAF": (".caf",),
    "AU": (".au", ".snd"),
    "NIST SPHERE": (".sph",),
}
"""Containers that can be read, and the suffixes by which a folder is searched for them."""

SUFFIXES: Final = frozenset(suffix for suffixes in SUPPORTED.values() for suffix in suffixes)

MAX_CHANNELS: Final = 32
MIN_SAMPLE_RATE: Final = 1_000
MAX_SAMPLE_RATE: Final = 768_000
MAX_SAMPLES: Final = 2**26
"""Of all channels together, 256 MiB: 25 minutes of mono at 44.1 kHz. Nothing can make this module hold much more."""

_LIBSNDFILE_MAGIC: Final = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b".snd", b"caff", b"NIST_1A")
# libsndfile would try more: MP3 with a library that writes its complaints to stderr, and forgotten formats
_LIBSNDFILE_FORMATS: Final = frozenset({"WAV", "WAVEX", "RF64", "AIFF", "FLAC", "OGG", "AU", "CAF", "NIST"})
_FFMPEG_DEMUXERS: Final = "aac,aiff,amr,asf,au,caf,flac,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,ogg,wav,w64"
# by name, for FFmpeg also has demuxers that open other files and hosts that a recording names (HLS, concat)

_FFMPEG_TIME_BASE: Final = 1_000_000
_EXACT_CODINGS: Final = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
_FULL_SCALE_LIMIT: Final = 1e6
# float samples far beyond full scale overflow the power spectrum; int16 values stored as float stay below
_LARGEST_KNOWN_SIZE: Final = 0x7FFF0000
# programs that write into a pipe put a number above this, or 0, where a header holds the length of the audio


class AudioError(UserError):
    """A recording that cannot be used; the message says why, without the recording's name."""


@dataclass(frozen=True)
class Sound:
    """Decoded audio.

    Attributes
    ----------
    samples : np.ndarray [shape=(n, channels)], float32
        Finite; full scale is -1 to 1.
    sample_rate : int
        Hz.
    declared_frames : int or None
        Samples a channel that the container promises; None: it does not say.
    """

    samples: np.ndarray
    sample_rate: int
    declared_frames: int | None = None

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.sample_rate

    @property
    def truncated(self) -> bool:
        """Whether the container promises more than there is."""
        return self.declared_frames is not None and self.declared_frames > len(self.samples)

    @property
    def peak(self) -> float:
        """The largest magnitude; 1 is full scale."""
        return _peak(self.samples)

    def mono(self, sample_rate: int) -> np.ndarray:
        """Return the mean of the channels at `sample_rate` [shape=(n,)], resampled as librosa does (soxr HQ)."""
        mixed = self.samples.mean(axis=1, dtype=np.float32) if self.channels > 1 else self.samples[:, 0]
        if self.sample_rate == sample_rate:
            return np.ascontiguousarray(mixed)
        return soxr.resample(mixed, self.sample_rate, sample_rate, quality="HQ")


def decode(source: bytes | str | Path, *, max_seconds: float | None = None) -> Sound:
    """Decode a recording by its content.

    Parameters
    ----------
    source : bytes or path
        The recording.
    max_seconds : float, optional
        Longer recordings are refused, and decoding stops there.

    Raises
    ------
    AudioError
        Not audio, damaged, empty, too long, or nothing that a microphone could have recorded.
    """
    with _opened(source) as file:
        head = file.read(16)
        file.seek(0)
        if not head:
            raise AudioError("is empty (0 bytes)")
        sound = _decode_libsndfile(file, max_seconds) if head.startswith(_LIBSNDFILE_MAGIC) else None
        if sound is None:
            file.seek(0)
            sound = _decode_ffmpeg(file, max_seconds)
    return _checked(sound)


def load(source: bytes | str | Path, sample_rate: int, *, max_seconds: float | None = None) -> np.ndarray:
    """Decode a recording to mono float32 at `sample_rate` [shape=(n,)]; see `decode`."""
    return decode(source, max_seconds=max_seconds).mono(sample_rate)


def from_array(samples: np.ndarray, sample_rate: int, *, max_seconds: float | None = None) -> Sound:
    """Take samples that are decoded already.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,) or (n, channels)]
        Floats with full scale -1 to 1, or integers with the full scale of their type.
    sample_rate : int
        Hz.
    max_seconds : float, optional
        Longer recordings are refused.

    Raises
    ------
    AudioError
        As `decode` does, or the array's shape or type cannot be sound.
    """
    if samples.ndim not in (1, 2):
        raise AudioError(f"is an array of shape {samples.shape}; expected (samples,) or (samples, channels)")
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        raise AudioError(f"is an array of shape {samples.shape}; expected time first, (samples, channels)")
    if samples.dtype.kind not in "fiu":
        raise AudioError(f"is an array of {samples.dtype}; expected floats or integers")
    table = samples[:, np.newaxis] if samples.ndim == 1 else samples
    _check_shape(sample_rate, table.shape[1])
    _check_length(len(table), table.shape[1], sample_rate, max_seconds)
    return _checked(Sound(_as_float(table), int(sample_rate), len(table)))


@contextmanager
def _opened(source: bytes | str | Path) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield _Bytes(source)
        return
    try:
        # unbuffered: libsndfile is given the descriptor, and both must agree on the position
        file = open(source, "rb", buffering=0)  # noqa: SIM115
    except FileNotFoundError:
        raise AudioError("does not exist") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    with file:
        yield file


def _decode_libsndfile(file: BinaryIO, max_seconds: float | None) -> Sound | None:
    """Decode what libsndfile reads; None: it does not know this codec, or not how long the recording is."""
    promised, present = _audio_bytes(file)
    file.seek(0)
    # a descriptor is faster than Python's file, and has no name from which a format could be guessed
    # A copy of it: libsndfile up to 1.2.0 closes what it cannot read, even where it is told to leave it open.
    handle = file if isinstance(file, io.BytesIO) else os.dup(file.fileno())
    try:
        opened = soundfile.SoundFile(handle, closefd=True)
    except soundfile.LibsndfileError:
        return None
    with opened as sound:
        if sound.format not in _LIBSNDFILE_FORMATS or sound.frames > 2**62:
            return None
        _check_shape(sound.samplerate, sound.channels)
        _check_length(sound.frames, sound.channels, sound.samplerate, max_seconds)
        try:
            samples = sound.read(dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = getattr(error, "error_string", str(error)).removeprefix("Error : ").rstrip(".")
            raise AudioError(f"is damaged or cut off ({reason})") from None
        declared = sound.frames
        if promised > present:
            declared = -(-sound.frames * promised // present)  # rounded up
        if not sound.subtype.startswith(_EXACT_CODINGS):
            declared = _without_padding(declared, len(samples), sound.samplerate)
        return Sound(samples, sound.samplerate, declared)


def _audio_bytes(file: BinaryIO) -> tuple[int, int]:
    """Return how many bytes of audio the header of a WAV, AIFF or AU promises and how many there are."""
    head = file.read(12)
    length = file.seek(0, io.SEEK_END)
    offset, size = 0, 0
    if head.startswith(b".snd") and len(head) == 12:
        offset, size = struct.unpack(">II", head[4:])
    elif head[:4] in (b"RIFF", b"RIFX", b"FORM"):
        offset, size = _audio_chunk(file, length, "<" if head[:4] == b"RIFF" else ">")
    known = size <= _LARGEST_KNOWN_SIZE and offset < length
    return (size if known else 0), max(1, length - offset)


def _audio_chunk(file: BinaryIO, length: int, order: str) -> tuple[int, int]:
    """Return where the audio of a RIFF or FORM file begins and how many bytes its chunk says it has."""
    position = 12
    while position + 8 <= length:
        file.seek(position)
        name, size = struct.unpack(f"{order}4sI", file.read(8))
        if name == b"data":
            return position + 8, size
        if name == b"SSND":  # begins with two numbers of its own
            return position + 16, max(0, size - 8)
        position += 8 + size + size % 2
    return 0, 0


def _decode_ffmpeg(file: BinaryIO, max_seconds: float | None) -> Sound:
    import av

    try:
        container = av.open(_Nameless(file), options={"format_whitelist": _FFMPEG_DEMUXERS})
    # a name inside that is not UTF-8 is a ValueError to PyAV, as some damage is
    except (av.FFmpegError, ValueError):
        raise AudioError("is not audio that can be read") from None
    with container:
        tracks = [track for track in container.streams.audio if track.codec_context is not None]
        if not tracks:
            raise AudioError("holds no audio track that can be read")
        return _decode_track(container, tracks[0], max_seconds)


def _decode_track(container: Any, track: Any, max_seconds: float | None) -> Sound:
    import av

    # packed: PyAV counts the planes of a planar frame of more than eight channels wrongly, and reads beyond them
    resampler = av.AudioResampler(format="flt")
    blocks: list[np.ndarray] = []
    sample_rate, channels, count = 0, 0, 0
    try:
        for frame in container.decode(track):
            if not blocks:
                sample_rate, channels = frame.sample_rate, frame.layout.nb_channels
                _check_shape(sample_rate, channels)
            elif (frame.sample_rate, frame.layout.nb_channels) != (sample_rate, channels):
                raise AudioError("changes its sample rate or its number of channels on the way")
            blocks.extend(one.to_ndarray().reshape(-1, channels) for one in resampler.resample(frame))
            count += frame.samples
            _check_length(count, channels, sample_rate, max_seconds)
    except (av.FFmpegError, ValueError):
        where = f" after {count / sample_rate:.2f} s" if blocks else ""
        raise AudioError(f"is damaged or cut off{where}") from None
    if not blocks:
        raise AudioError("holds no sound (0 samples)")
    samples = np.concatenate(blocks)
    return Sound(samples, sample_rate, _declared_by_container(container, sample_rate, len(samples)))


def _declared_by_container(container: Any, sample_rate: int, count: int) -> int | None:
    # FFmpeg gives every container a duration; only these write it down, for the others it is guessed from the bit rate
    if container.duration is None or not container.format.name.startswith(("mov", "matroska")):
        return None
    return _without_padding(round(container.duration / _FFMPEG_TIME_BASE * sample_rate), count, sample_rate)


def _without_padding(declared: int, count: int, sample_rate: int) -> int:
    # lossy codings count what the encoder put before and after the sound: up to a tenth of a second
    return declared if declared - count > sample_rate / 10 else count


class _Bytes(io.BytesIO):
    """Bytes as a file that, as one on disk does, refuses a position before its beginning without an exception.

    libsndfile is led to such positions by damaged headers, and soundfile prints what is raised while it seeks.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: len(self.getbuffer())}[whence]
        return super().seek(offset, whence) if start + offset >= 0 else -1


class _Nameless:
    """A file without its name, from which FFmpeg would guess."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _check_shape(sample_rate: int, channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"has {channels} channels; 1 to {MAX_CHANNELS} can be used")
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"has a sample rate of {sample_rate} Hz; {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz can be used"
        )


def _check_length(frames: int, channels: int, sample_rate: int, max_seconds: float | None) -> None:
    if max_seconds is not None and frames > max_seconds * sample_rate:
        raise AudioError(f"is longer than {max_seconds:g} s")
    if frames * channels > MAX_SAMPLES:
        raise AudioError(f"holds more than {MAX_SAMPLES} samples (all channels together)")


def _checked(sound: Sound) -> Sound:
    if not len(sound.samples):
        raise AudioError("holds no sound (0 samples)")
    peak = _peak(sound.samples)
    if not math.isfinite(peak):
        raise AudioError("holds samples that are not numbers (NaN or infinity)")
    if peak > _FULL_SCALE_LIMIT:
        raise AudioError(f"holds samples of {peak:.0e}, where full scale is 1")
    return sound


def _peak(samples: np.ndarray) -> float:
    # NaN is passed on by both, and neither makes a copy as abs() would
    return float(max(samples.max(), -samples.min()))


def _as_float(samples: np.ndarray) -> np.ndarray:
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
            return samples.astype(np.float32)
    scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return ((samples.astype(np.float64) - (scale if samples.dtype.kind == "u" else 0.0)) / scale).astype(np.float32)
