"""Decode a file or bytes in any container to mono float32 samples at one sample rate.

The first bytes determine the format; the file name does not matter. libsndfile reads the formats it supports in a
fraction of a millisecond. FFmpeg (PyAV, imported only then) reads what phones, browsers and messengers record.
Whatever a decoder raises for a damaged file becomes an `AudioError`, so that it costs only that file.
"""

import io
import math
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
from speech_emotion.core.io import open_regular_file

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
"""Of all channels together, 256 MiB: 25 minutes of mono at 44.1 kHz. This bounds the memory of decoding."""

_LIBSNDFILE_MAGIC: Final = (
    *(b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"caff", b".snd"),
    *(b"fLaC", b"OggS", b"NIST_1A"),
)
# libsndfile would try more: MP3 with a library that writes to stderr, and formats that nobody uses
_LIBSNDFILE_FORMATS: Final = frozenset({"WAV", "WAVEX", "RF64", "W64", "AIFF", "FLAC", "OGG", "AU", "CAF", "NIST"})
_FFMPEG_DEMUXERS: Final = "aac,aiff,amr,asf,au,caf,flac,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,ogg,wav,w64"
# by name, for FFmpeg also has demuxers that open other files and hosts that a recording names (HLS, concat)

_EXACT_CODINGS: Final = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
_FULL_SCALE_LIMIT: Final = 1e6
# float samples far beyond full scale overflow the power spectrum; int16 values stored as float stay below
_UNKNOWN_SIZE: Final = 0x7FFF0000 - 24
# programs that write into a pipe put this number or a larger one where a header has the length of the audio
_CANCELLED: Final = 0.01
# channels whose mean is this much lower than the loudest of them are in opposite phase


class AudioError(UserError):
    """A recording that cannot be used; the message gives the reason without the recording's name."""


@dataclass(frozen=True)
class Sound:
    """Decoded audio: finite float32 samples [shape=(n, channels)] with full scale -1 to 1, and their rate in Hz.

    `declared_frames` are the samples per channel according to the container; None if it does not say.
    """

    samples: np.ndarray
    sample_rate: int
    declared_frames: int | None = None

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.sample_rate

    @property
    def truncated(self) -> bool:
        """Whether the container declares more samples than it has."""
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
    """Decode a recording, given as bytes or as a path, by its content.

    Raise `AudioError` if it is not a regular file, not audio, damaged, empty, or longer than `max_seconds`.
    """
    with _opened(source) as file:
        try:
            sound = _decode(file, max_seconds)
        except AudioError:
            raise
        except OSError as error:
            raise AudioError(f"cannot be read ({error.strerror or error})") from None
        except Exception as error:  # decoders raise anything for damaged files
            reason = next(iter(str(error).splitlines()), "")
            raise AudioError(f"cannot be decoded ({type(error).__name__}: {reason[:200]})") from None
    return _checked(sound)


def load(source: bytes | str | Path, sample_rate: int, *, max_seconds: float | None = None) -> np.ndarray:
    """Decode a recording to mono float32 at `sample_rate` [shape=(n,)]; see `decode`."""
    return decode(source, max_seconds=max_seconds).mono(sample_rate)


def from_array(samples: np.ndarray, sample_rate: int, *, max_seconds: float | None = None) -> Sound:
    """Return samples in memory [shape=(n,) or (n, channels)] as a sound.

    They are floats with full scale -1 to 1, or integers with the full scale of their type. Raise `AudioError` as
    `decode`, or if the shape or type of the array is not that of audio.
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
        yield io.BytesIO(source)
        return
    try:
        file = open_regular_file(source)
    except FileNotFoundError:
        raise AudioError("does not exist") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    with file:
        yield file


def _decode(file: BinaryIO, max_seconds: float | None) -> Sound:
    if not file.read(1):
        raise AudioError("is empty (0 bytes)")
    start = _end_of_tags(file)
    view = _View(file, start)
    if not view.read(16).startswith(_LIBSNDFILE_MAGIC):
        return _decode_ffmpeg(_View(file), max_seconds)
    return _decode_libsndfile(view, max_seconds) or _decode_ffmpeg(_View(file, start), max_seconds)


def _end_of_tags(file: BinaryIO) -> int:
    """Return where the ID3v2 tags end with which a file begins."""
    end = 0
    while True:
        file.seek(end)
        head = file.read(10)
        if len(head) < 10 or not head.startswith(b"ID3"):
            return end
        # four bytes of seven bits each; a footer repeats the ten bytes of the header
        size = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        end += 10 + size + (10 if head[5] & 0x10 else 0)


class _View:
    """A part of a file, with some bytes replaced. It has no name, from which FFmpeg would guess the format."""

    def __init__(self, file: BinaryIO, start: int = 0) -> None:
        self.file = file
        self.start = start
        self.replaced: dict[int, bytes] = {}
        self._position = 0
        self.length = self.whole = max(0, file.seek(0, io.SEEK_END) - start)

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.length}[whence]
        # damaged headers lead libsndfile before the beginning, and soundfile prints exceptions of callbacks
        if target < 0:
            return -1
        self._position = target
        return target

    def read(self, count: int = -1) -> bytes:
        self.file.seek(self.start + self._position)
        left = max(0, self.length - self._position)
        block = self.file.read(left if count < 0 else min(count, left))
        for at, content in self.replaced.items():
            inside = at - self._position
            if 0 <= inside <= len(block) - len(content):
                block = block[:inside] + content + block[inside + len(content) :]
        self._position += len(block)
        return block


class _Sequential(soundfile.SoundFile):
    """A file that is read once from start to end: libsndfile cannot seek in GSM 6.10, G.721, DWVW and other codings."""

    def seekable(self) -> bool:
        return False


def _decode_libsndfile(view: _View, max_seconds: float | None) -> Sound | None:
    """Decode what libsndfile reads; None: it does not know this codec, or not how long the recording is."""
    promised, present = _audio_bytes(view)
    if 0 < promised <= present and (sound := _decode_plain(view, view.length - present, promised, max_seconds)):
        return sound
    view.seek(0)
    try:
        opened = _Sequential(view)
    except soundfile.LibsndfileError:
        return None
    with opened as sound:
        if sound.format not in _LIBSNDFILE_FORMATS or sound.frames > 2**62:
            return None
        _check_shape(sound.samplerate, sound.channels)
        _check_length(sound.frames, sound.channels, sound.samplerate, max_seconds)
        try:
            samples = sound.read(sound.frames, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = getattr(error, "error_string", str(error)).removeprefix("Error : ").rstrip(".")
            raise AudioError(f"is damaged or cut off ({reason})") from None
        declared = sound.frames
        if promised > present:
            declared = -(-sound.frames * promised // present)  # rounded up
        if not sound.subtype.startswith(_EXACT_CODINGS):
            declared = _without_padding(declared, len(samples), sound.samplerate)
        return Sound(samples, sound.samplerate, declared)


def _decode_plain(view: _View, offset: int, size: int, max_seconds: float | None) -> Sound | None:
    """Decode a WAV file of 16-bit PCM, in a fifth of the time that libsndfile takes, to the same samples."""
    view.seek(0)
    head = view.read(36)
    riff, wave, coding, channels, sample_rate, block, bits = struct.unpack("<4s4x8s4xHHI4xHH", head.ljust(36))
    if (riff, wave, coding, bits) != (b"RIFF", b"WAVEfmt ", 1, 16) or block != 2 * channels or view.replaced:
        return None
    _check_shape(sample_rate, channels)
    frames = size // block
    _check_length(frames, channels, sample_rate, max_seconds)
    view.seek(offset)
    samples = np.frombuffer(view.read(frames * block), "<i2") / np.float32(2**15)
    return Sound(samples.reshape(frames, channels), sample_rate, frames)


@dataclass(frozen=True)
class _Chunks:
    """How a container writes its chunks: each begins with a name and a size."""

    first: int
    """Where the first chunk begins."""
    size: str
    """Format of the size, for `struct`."""
    name: int = 4
    """Bytes of a name."""
    counts_header: bool = False
    """Whether the size includes name and size."""
    align: int = 2
    audio: bytes = b"data"
    """What the name of the chunk with the audio begins with."""
    before: int = 0
    """Bytes of that chunk that precede the audio."""


_CHUNKS: Final = {
    b"RIFF": _Chunks(12, "<I"),
    b"RIFX": _Chunks(12, ">I"),
    b"RF64": _Chunks(12, "<I"),
    b"riff": _Chunks(40, "<Q", name=16, counts_header=True, align=8),  # Wave64
    b"FORM": _Chunks(12, ">I", audio=b"SSND", before=8),
    b"caff": _Chunks(8, ">Q", align=1, before=4),
}


@dataclass(frozen=True)
class _Audio:
    """Where the audio of a file begins, its declared bytes, and where and how its header writes their number."""

    offset: int
    size: int
    size_at: int
    form: str
    align: int = 2
    more: int = 0
    """How much larger the written number is."""


def _audio_bytes(view: _View) -> tuple[int, int]:
    """Return how many bytes of audio a header declares (0: unknown) and how many there are.

    A recorder that crashed, or wrote into a pipe, leaves the size at 0 or at that of the first block, or writes one
    that means unknown: -1 in CAF, a very large one elsewhere. The view then shows the size that there is.
    """
    audio = _find_audio(view)
    if audio is None or audio.offset >= view.length:
        return 0, 1
    present = view.length - audio.offset
    unknown = audio.size >= _UNKNOWN_SIZE or _is_unfinished(view, audio)
    if unknown or audio.size > present:
        view.replaced[audio.size_at] = struct.pack(audio.form, present + audio.more)
    elif audio.align == 8:  # Wave64, which libsndfile would read to the end of the file
        view.length = audio.offset + audio.size
    return (0 if unknown else audio.size), present


def _find_audio(view: _View) -> _Audio | None:
    view.seek(0)
    head = view.read(36)
    if head.startswith(b".snd") and len(head) >= 12:
        offset, size = struct.unpack_from(">II", head, 4)
        return _Audio(offset, size, size_at=8, form=">I")
    chunks = _CHUNKS.get(head[:4])
    if chunks is None:
        return None
    position, width = chunks.first, chunks.name + struct.calcsize(chunks.size)
    while position + width <= view.length:
        view.seek(position)
        start = view.read(width)
        [size] = struct.unpack_from(chunks.size, start, chunks.name)
        counted = width if chunks.counts_header else 0
        if start.startswith(chunks.audio):
            offset, more = position + width + chunks.before, chunks.before + counted
            if head.startswith(b"RF64") and head[12:16] == b"ds64":
                [size] = struct.unpack_from("<Q", head, 28)
                return _Audio(offset, size, 28, "<Q")
            return _Audio(offset, max(0, size - more), position + chunks.name, chunks.size, chunks.align, more)
        position += max(width, width + size - counted)
        position += -position % chunks.align
    return None


def _is_unfinished(view: _View, audio: _Audio) -> bool:
    """Return whether audio continues after its declared end: more follows than was declared, and it is no chunk."""
    end = audio.offset + audio.size
    if view.length - end <= audio.size:
        return False
    view.seek(end + -end % audio.align)
    name = view.read(4)
    return not (len(name) == 4 and all(32 <= byte < 127 for byte in name))


def _decode_ffmpeg(view: _View, max_seconds: float | None) -> Sound:
    import av

    try:
        container = av.open(view, options={"format_whitelist": _FFMPEG_DEMUXERS})
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
    samples, declared = np.concatenate(blocks), None
    # FFmpeg gives every container a duration; only these write it down, for the others it is guessed from the bit rate
    if container.duration is not None and container.format.name.startswith(("mov", "matroska")):
        duration = round(container.duration / av.time_base * sample_rate)
        declared = _without_padding(duration, len(samples), sample_rate)
    return Sound(samples, sample_rate, declared)


def _without_padding(declared: int, count: int, sample_rate: int) -> int:
    # lossy codings count what the encoder put before and after the sound: up to a tenth of a second
    return declared if declared - count > sample_rate / 10 else count


def _check_shape(sample_rate: int, channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"has {channels} channels; 1 to {MAX_CHANNELS} can be used")
    low, high = MIN_SAMPLE_RATE, MAX_SAMPLE_RATE
    if not low <= sample_rate <= high:
        raise AudioError(f"has a sample rate of {sample_rate} Hz; {low} to {high} Hz can be used")


def _check_length(frames: int, channels: int, sample_rate: int, max_seconds: float | None) -> None:
    if max_seconds is not None and frames > max_seconds * sample_rate:
        raise AudioError(f"is longer than {max_seconds:g} s")
    if frames * channels > MAX_SAMPLES:
        raise AudioError(f"holds more than {MAX_SAMPLES} samples (all channels together)")


def _checked(sound: Sound) -> Sound:
    if not len(sound.samples):
        raise AudioError("holds no sound (0 samples)")
    peak = sound.peak
    if not math.isfinite(peak):
        raise AudioError("holds samples that are not numbers (NaN or infinity)")
    if peak > _FULL_SCALE_LIMIT:
        raise AudioError(f"holds samples of {peak:.0e}, where full scale is 1")
    if sound.channels > 1 and _peak(sound.mono(sound.sample_rate)) < _CANCELLED * peak:
        raise AudioError("is silent when mixed to one channel: its channels cancel each other")
    return sound


def _peak(samples: np.ndarray) -> float:
    # both pass NaN on, and neither makes a copy as abs() would
    return float(max(samples.max(), -samples.min()))


def _as_float(samples: np.ndarray) -> np.ndarray:
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused
            return samples.astype(np.float32)
    scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return ((samples.astype(np.float64) - (scale if samples.dtype.kind == "u" else 0.0)) / scale).astype(np.float32)
