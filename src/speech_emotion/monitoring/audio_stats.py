"""Describe a recording by eleven rounded statistics, from which no speech can be restored.

Uses only NumPy and soxr and a bounded amount of work per recording, because the server computes it for its log.
"""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import soxr

from speech_emotion.audio.decode import AudioError, Sound, decode
from speech_emotion.core.errors import UserError
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.progress import track
from speech_emotion.features.prosody import yin

if TYPE_CHECKING:
    import pandas as pd

FLOOR_DBFS: Final = -120.0
"""Level of digital silence; no sound of 16 or 20 bits is fainter."""

_FRAME_SECONDS: Final = 0.02
_MOST_FRAMES: Final = 300
"""Of a longer recording, frames are spread evenly."""

_QUIET: Final = 0.1
"""Share of frames that are taken as pauses."""

_SPECTRUM_SECONDS: Final = 0.032
_CARRIED_DB: Final = 50.0
"""Frequencies fainter than this below the strongest are outside of the band; a codec's band ends well below."""

_PITCH_RATE: Final = 8000
_PITCH_SECONDS: Final = 0.04
_VOICED: Final = 0.6
_LOUD_DB: Final = 35.0
_PITCH_QUANTILES: Final = (0.1, 0.9)


@dataclass(frozen=True)
class AudioStats:
    """Statistics of a recording; docs/monitoring.md describes each."""

    sample_rate: int
    """Hz, of the file."""
    channels: int
    seconds: float
    level_dbfs: float
    peak_dbfs: float
    noise_dbfs: float
    """The 10 % quantile of the level of frames."""
    voiced_share: float
    pitch_hz: float | None
    """Median of voiced frames; None: there are none."""
    pitch_range: float | None
    """Semitones between the 10 % and 90 % quantiles of voiced frames."""
    centroid_hz: float
    bandwidth_hz: float
    """Highest frequency at most 50 dB below the strongest."""


NAMES: Final = tuple(field.name for field in fields(AudioStats))


def describe(sound: Sound) -> AudioStats:
    """Return the statistics of a sound, rounded: finer numbers would identify the recording."""
    rate = sound.sample_rate
    mono = sound.mono(rate)
    length = max(1, round(_FRAME_SECONDS * rate))
    frames = _frames(mono, length=length, hop=length)
    quiet = float(np.quantile(np.einsum("ij,ij->i", frames, frames) / length, _QUIET))
    voiced, pitch, width = _voice(mono, rate)
    centroid, highest = _spectrum(mono, rate)
    return AudioStats(
        sample_rate=rate,
        channels=sound.channels,
        seconds=round(sound.seconds, 2),
        level_dbfs=_dbfs(float(np.mean(np.square(sound.samples, dtype=np.float64)))),
        peak_dbfs=_dbfs(sound.peak**2),
        noise_dbfs=_dbfs(quiet),
        voiced_share=round(voiced, 2),
        pitch_hz=pitch,
        pitch_range=width,
        centroid_hz=float(round(centroid)),
        bandwidth_hz=float(round(highest)),
    )


def table(recordings: "pd.DataFrame", raw: Path, *, workers: int | None = None) -> "pd.DataFrame":
    """Append the audio statistics of each recording as columns; `path` is relative to `raw`."""
    import pandas as pd

    paths = [raw / path for path in recordings["path"]]
    rows = list(track(parallel_map(_of_file, paths, workers=workers), len(paths), "audio statistics", "recordings"))
    return pd.concat([recordings.reset_index(drop=True), pd.DataFrame(rows, columns=list(NAMES))], axis=1)


def _of_file(path: Path) -> dict[str, Any]:
    try:
        return asdict(describe(decode(path)))
    except AudioError as error:
        raise UserError(f"{path}: {error}. It was readable in prepare: run `dvc repro` again.") from None


def _spectrum(mono: np.ndarray, rate: int) -> tuple[float, float]:
    """Return the centroid and the bandwidth in Hz."""
    length = 1 << math.ceil(math.log2(_SPECTRUM_SECONDS * rate))
    pieces = _frames(mono, length=length, hop=length) * np.hanning(length).astype(np.float32)
    spectrum = np.fft.rfft(pieces, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=0, dtype=np.float64)
    frequencies = np.fft.rfftfreq(length, 1 / rate)
    total = float(power.sum())
    if not total:
        return 0.0, 0.0
    carried = np.flatnonzero(power >= power.max() * 10 ** (-_CARRIED_DB / 10))
    return float(power @ frequencies) / total, float(frequencies[carried[-1]])


def _voice(mono: np.ndarray, rate: int) -> tuple[float, float | None, float | None]:
    """Return the share of voiced frames, their median pitch in Hz, and its range in semitones."""
    samples = mono if rate == _PITCH_RATE else soxr.resample(mono, rate, _PITCH_RATE, quality="MQ")
    if not len(samples):
        return 0.0, None, None
    hop = max(round(_PITCH_SECONDS * _PITCH_RATE), -(-len(samples) // _MOST_FRAMES))
    count = 1 + (len(samples) - 1) // hop
    pitch, periodic = yin(samples, frames=count, sample_rate=_PITCH_RATE, hop_length=hop)
    power = _frames(samples, length=hop, hop=hop, most=count)
    loudness = np.einsum("ij,ij->i", power, power)[:count]
    loud = loudness >= loudness.max() * 10 ** (-_LOUD_DB / 10)
    f0 = pitch[: len(loud)][(periodic[: len(loud)] > _VOICED) & loud & (loudness > 0)]
    if not len(f0):
        return 0.0, None, None
    low, high = np.quantile(f0, _PITCH_QUANTILES)
    return len(f0) / count, float(round(float(np.median(f0)))), round(12 * math.log2(high / low), 1)


def _frames(mono: np.ndarray, *, length: int, hop: int, most: int = _MOST_FRAMES) -> np.ndarray:
    """Return at most `most` frames [shape=(t, length)]; a recording shorter than one frame is padded."""
    padded = mono if len(mono) >= length else np.pad(mono, (0, length - len(mono)))
    step = max(hop, -(-(len(padded) - length + 1) // most))
    return np.lib.stride_tricks.sliding_window_view(padded, length)[::step]


def _dbfs(power: float) -> float:
    return round(max(FLOOR_DBFS, 10 * math.log10(power)), 1) if power > 0 else FLOOR_DBFS
