"""Measure how much UAR drops when recordings are louder, noisier, band-limited or compressed.

A condition is a function of a waveform, its sample rate and a seed. It returns what a user would send: samples with
their rate, or the bytes of a file. The measurement includes decoding.
"""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, TypeAlias

import av
import numpy as np
import pandas as pd
import soundfile
import soxr
from scipy.signal import butter, sosfilt

from speech_emotion.audio.decode import AudioError, decode
from speech_emotion.config.evaluation import EvaluateSettings, RobustnessSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing_folder
from speech_emotion.core.tables import write_table
from speech_emotion.data import splits
from speech_emotion.evaluation import plots
from speech_emotion.evaluation.bootstrap import Predictions, differences, intervals
from speech_emotion.evaluation.metrics import mean_of, metrics
from speech_emotion.evaluation.protocol_report import as_predictions, evaluated_part
from speech_emotion.inference.recognizer import Recognizer

Input: TypeAlias = tuple[np.ndarray, int] | tuple[bytes]
"""Input of the recognizer: samples and their rate, or the bytes of a file."""

Condition: TypeAlias = Callable[[np.ndarray, int, int], Input]
"""From mono float32 samples [shape=(n,)], their rate in Hz, and a seed."""

ORIGINAL: Final = "original"

COLUMNS: Final = (
    "protocol",
    "condition",
    "utterances",
    "uar",
    "low",
    "high",
    "drop",
    "drop_low",
    "drop_high",
    "same_label",
)

_TELEPHONE_HZ: Final = (300.0, 3400.0)
_TELEPHONE_RATE: Final = 8000
_MP3_RATE: Final = 44100
_MP3_BITS: Final = 64_000


def noisy(waveform: np.ndarray, sample_rate: int, seed: int, *, snr_db: float) -> Input:
    """Return the samples with white noise, `snr_db` below them."""
    noise = np.random.default_rng(seed).standard_normal(len(waveform))
    level = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return ((waveform + level * noise).astype(np.float32), sample_rate)


def as_mp3(waveform: np.ndarray, sample_rate: int, seed: int) -> Input:
    """Return an MP3 of 44.1 kHz, mono, 64 kbit/s, by LAME."""
    at_rate = soxr.resample(waveform, sample_rate, _MP3_RATE, quality="HQ").clip(-1, 1)
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as output:
        stream = output.add_stream("libmp3lame", rate=_MP3_RATE)
        stream.layout, stream.bit_rate = "mono", _MP3_BITS
        frame = av.AudioFrame.from_ndarray(at_rate[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = _MP3_RATE
        resampler = av.AudioResampler(format=stream.codec_context.format.name, layout="mono", rate=_MP3_RATE)
        for converted in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    return (file.getvalue(),)


def by_telephone(waveform: np.ndarray, sample_rate: int, seed: int) -> Input:
    """Return a WAV of telephone quality: 300 to 3400 Hz, 8 kHz, 8-bit mu-law (ITU-T G.711)."""
    at_rate = soxr.resample(waveform, sample_rate, _TELEPHONE_RATE, quality="HQ")
    band = sosfilt(butter(4, _TELEPHONE_HZ, "bandpass", fs=_TELEPHONE_RATE, output="sos"), at_rate).clip(-1, 1)
    file = io.BytesIO()
    soundfile.write(file, band, _TELEPHONE_RATE, format="WAV", subtype="ULAW")
    return (file.getvalue(),)


def _resampled(to: int) -> Condition:
    return lambda waveform, sample_rate, seed: (soxr.resample(waveform, sample_rate, to, quality="HQ"), to)


# gain gives floats, so nothing is clipped
CONDITIONS: Final[Mapping[str, Condition]] = {
    ORIGINAL: lambda waveform, sample_rate, seed: (waveform, sample_rate),
    "12 dB louder": lambda waveform, sample_rate, seed: (waveform * np.float32(10 ** (12 / 20)), sample_rate),
    "12 dB softer": lambda waveform, sample_rate, seed: (waveform * np.float32(10 ** (-12 / 20)), sample_rate),
    "300 ms of silence at both ends": lambda waveform, sample_rate, seed: (
        np.pad(waveform, round(0.3 * sample_rate)),
        sample_rate,
    ),
    "white noise at 30 dB": partial(noisy, snr_db=30.0),
    "white noise at 20 dB": partial(noisy, snr_db=20.0),
    "8 kHz": _resampled(8000),
    "16 kHz": _resampled(16000),
    "44.1 kHz": _resampled(44100),
    "48 kHz": _resampled(48000),
    "MP3, 64 kbit/s": as_mp3,
    "telephone": by_telephone,
}
"""Conditions by name. The first is the baseline of the others."""


@dataclass(frozen=True)
class Case:
    """An utterance and the package that predicts it in every condition."""

    package: Path
    recording: Path
    id: str


def cases(split: Path, *, models: Path, raw: Path, settings: RobustnessSettings) -> list[Case]:
    """Choose utterances of a protocol's evaluated part, spread evenly over folds, speakers and emotions.

    The name of `split` without `.csv` is the protocol; `models` holds one package per fold, named as the fold.
    """
    by_id = splits.utterances(split).set_index("id")
    folds = splits.read(split)
    chosen = []
    for fold in folds:
        rows = by_id.loc[list(getattr(fold, evaluated_part(fold)))].sort_index()
        order = rows.groupby(["speaker", "emotion"]).cumcount()
        wanted = -(-settings.utterances // len(folds))
        # every nth utterance of each speaker and emotion, so that no word occurs more often than another
        step = max(1, -(-len(rows) // wanted))
        kept = rows.loc[order % step == 0, "path"]
        chosen += [Case(models / fold.name, raw / path, str(name)) for name, path in kept.items()]
    return chosen


def predict(case: Case, *, seed: int) -> np.ndarray:
    """Return the probabilities of an utterance in every condition [shape=(conditions, labels)], float64.

    Raise a `UserError` if the package refuses the recording in some condition.
    """
    recognizer = _recognizer(case.package)
    sound = decode(case.recording)
    waveform = sound.mono(sound.sample_rate)
    own = int.from_bytes(hashlib.sha256(f"{seed} {case.id}".encode()).digest()[:8])
    frames = []
    for name, condition in CONDITIONS.items():
        try:
            frames.append(recognizer.frames(*condition(waveform, sound.sample_rate, own)))
        except AudioError as error:
            raise UserError(f"{case.recording}: {name}: {error}") from None
    # one by one: padding in a batch changes the last bits
    return np.concatenate([recognizer.predict_frames([one]) for one in frames])


def score(
    protocol: str,
    chosen: Sequence[Case],
    predicted: Sequence[np.ndarray],
    utterances: pd.DataFrame,
    settings: EvaluateSettings,
) -> pd.DataFrame:
    """Return UAR and its drop in every condition, with 95 % intervals from `bootstrap`.

    `predicted` is from `predict` [shape=(conditions, labels)], in the order of `chosen`; `utterances` from
    `splits.utterances`.

    Returns
    -------
    pd.DataFrame [columns=(protocol, condition, utterances, uar, low, high, drop, drop_low, drop_high, same_label)]
        `drop` is the UAR of the original minus that of the condition, `same_label` the share of equal predictions.
    """
    labels = _recognizer(chosen[0].package).labels
    rows = utterances.set_index("id").loc[[one.id for one in chosen]].reset_index()
    packages = np.array([one.package.name for one in chosen])
    everything = np.stack(predicted)

    def folds(number: int) -> list[Predictions]:
        probabilities = pd.DataFrame(everything[:, number], columns=[f"p_{label}" for label in labels])
        table = pd.concat([rows, probabilities], axis=1)
        return [as_predictions(table[packages == name], labels) for name in dict.fromkeys(packages)]

    answers = everything.argmax(axis=2)
    original = folds(0)
    table = []
    for number, condition in enumerate(CONDITIONS):
        changed = folds(number)
        interval = intervals(changed, settings=settings)["uar"]
        drop = differences(original, changed, settings=settings)["uar"]
        scores = [metrics(one.truth, one.probabilities, labels, bins=settings.calibration_bins) for one in changed]
        table.append(
            {
                "protocol": protocol,
                "condition": condition,
                "utterances": len(chosen),
                "uar": mean_of(scores)["uar"],
                "low": interval.low,
                "high": interval.high,
                "drop": drop.value,
                "drop_low": drop.interval.low,
                "drop_high": drop.interval.high,
                "same_label": float((answers[:, number] == answers[:, 0]).mean()),
            }
        )
    return pd.DataFrame(table)


def write(table: pd.DataFrame, target: Path, *, corpus: str) -> None:
    """Write `table.csv` and, unless the table is empty, `table.png` to the folder `target`."""
    originals = table[table["condition"] == ORIGINAL].set_index("protocol")["uar"]
    drawn = table.rename(columns={"condition": "name"}).assign(line=table["protocol"].map(originals))
    with replacing_folder(target) as folder:
        write_table(folder / "table.csv", table)
        if table.empty:
            return
        plots.uar_by_protocol(
            folder / "table.png", drawn, title=f"{corpus}: UAR of modified recordings; dotted: the original"
        )


@lru_cache(maxsize=4)
def _recognizer(package: Path) -> Recognizer:
    """Return the recognizer of a package, loaded once per worker."""
    return Recognizer.load(package)
