"""Takes recordings and packages; gives how far UAR falls when the recordings are changed as the world changes them.

Every condition is a pure function of a waveform, its sample rate and a seed, and gives what a user would send: samples
with their rate, or the bytes of a file. What is measured is the whole way to an answer, decoding included.
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
from sklearn.metrics import recall_score

from speech_emotion.audio.decode import AudioError, decode
from speech_emotion.config.evaluation import EvaluateSettings, RobustnessSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, replacing_folder, write_text
from speech_emotion.data.splits import Fold
from speech_emotion.evaluation import plots
from speech_emotion.evaluation.bootstrap import Predictions, differences, intervals
from speech_emotion.evaluation.protocol_report import judged_part
from speech_emotion.inference.recognizer import Recognizer

Sent: TypeAlias = tuple[np.ndarray, int] | tuple[bytes]
"""What a recogniser is asked with: samples and their rate, or a file."""

Condition: TypeAlias = Callable[[np.ndarray, int, int], Sent]
"""From mono float32 samples [shape=(n,)], their rate in Hz, and a seed."""

RECORDED: Final = "as recorded"

_TELEPHONE_HZ: Final = (300.0, 3400.0)
_TELEPHONE_RATE: Final = 8000
_MP3_RATE: Final = 44100
_MP3_BITS: Final = 64_000


def gained(waveform: np.ndarray, sample_rate: int, seed: int, *, decibels: float) -> Sent:
    """Return the samples louder or softer; floats, so that nothing is clipped."""
    return (waveform * np.float32(10 ** (decibels / 20)), sample_rate)


def padded(waveform: np.ndarray, sample_rate: int, seed: int, *, seconds: float) -> Sent:
    """Return the samples with digital silence before and after."""
    return (np.pad(waveform, round(seconds * sample_rate)), sample_rate)


def noisy(waveform: np.ndarray, sample_rate: int, seed: int, *, snr_db: float) -> Sent:
    """Return the samples with white noise, `snr_db` below them."""
    noise = np.random.default_rng(seed).standard_normal(len(waveform))
    level = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return ((waveform + level * noise).astype(np.float32), sample_rate)


def resampled(waveform: np.ndarray, sample_rate: int, seed: int, *, to: int) -> Sent:
    """Return the samples at another rate, in Hz."""
    return (soxr.resample(waveform, sample_rate, to, quality="HQ"), to)


def as_mp3(waveform: np.ndarray, sample_rate: int, seed: int) -> Sent:
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


def by_telephone(waveform: np.ndarray, sample_rate: int, seed: int) -> Sent:
    """Return a WAV as a telephone carries it: 300 to 3400 Hz, 8 kHz, 8 bits of mu-law (ITU-T G.711)."""
    at_rate = soxr.resample(waveform, sample_rate, _TELEPHONE_RATE, quality="HQ")
    band = sosfilt(butter(4, _TELEPHONE_HZ, "bandpass", fs=_TELEPHONE_RATE, output="sos"), at_rate).clip(-1, 1)
    file = io.BytesIO()
    soundfile.write(file, band, _TELEPHONE_RATE, format="WAV", subtype="ULAW")
    return (file.getvalue(),)


def as_is(waveform: np.ndarray, sample_rate: int, seed: int) -> Sent:
    """Return the samples themselves."""
    return (waveform, sample_rate)


CONDITIONS: Final[Mapping[str, Condition]] = {
    RECORDED: as_is,
    "12 dB louder": partial(gained, decibels=12.0),
    "12 dB softer": partial(gained, decibels=-12.0),
    "300 ms of silence either side": partial(padded, seconds=0.3),
    "white noise at 30 dB": partial(noisy, snr_db=30.0),
    "white noise at 20 dB": partial(noisy, snr_db=20.0),
    "8 kHz": partial(resampled, to=8000),
    "16 kHz": partial(resampled, to=16000),
    "44.1 kHz": partial(resampled, to=44100),
    "48 kHz": partial(resampled, to=48000),
    "MP3, 64 kbit/s": as_mp3,
    "telephone": by_telephone,
}
"""What is done to a recording, by name; the first is what the others are held against."""


@dataclass(frozen=True)
class Question:
    """An utterance, and the package that is asked about it in every condition."""

    package: Path
    recording: Path
    id: str


def questions(
    folds: Sequence[Fold],
    *,
    protocol: str,
    models: Path,
    manifest: pd.DataFrame,
    raw: Path,
    settings: RobustnessSettings,
) -> list[Question]:
    """Return a fixed part of a protocol's judged utterances, spread evenly over folds, speakers and emotions.

    Parameters
    ----------
    folds : sequence of Fold
    protocol : str
    models : Path
        Holds a package a fold, by the fold's name.
    manifest : pd.DataFrame
    raw : Path
        The tree of recordings.
    settings : RobustnessSettings
    """
    by_id = manifest.set_index("id")
    chosen = []
    for fold in folds:
        rows = by_id.loc[list(getattr(fold, judged_part(protocol)))].sort_index()
        order = rows.groupby(["speaker", "emotion"]).cumcount()
        wanted = -(-settings.utterances // len(folds))
        # every nth utterance of each speaker and emotion, so that no word is asked about more often than another
        step = max(1, -(-len(rows) // wanted))
        kept = rows.loc[order % step == 0, "path"]
        chosen += [
            Question(models / fold.name, raw / path, str(name)) for name, path in zip(kept.index, kept, strict=True)
        ]
    return chosen


def ask(question: Question, *, seed: int) -> np.ndarray:
    """Return the probabilities of an utterance in every condition [shape=(conditions, labels)], float64.

    Raises
    ------
    UserError
        In some condition the package refuses the recording; names both.
    """
    recognizer = _recognizer(question.package)
    sound = decode(question.recording)
    waveform = sound.mono(sound.sample_rate)
    own = int.from_bytes(hashlib.sha256(f"{seed} {question.id}".encode()).digest()[:8])
    frames = []
    for name, condition in CONDITIONS.items():
        try:
            frames.append(recognizer.frames(*condition(waveform, sound.sample_rate, own)))
        except AudioError as error:
            raise UserError(f"{question.recording}: {name}: {error}") from None
    # one by one: what is padded in a batch differs in the last bits
    return np.concatenate([recognizer.predict_frames([one]) for one in frames])


def score(
    protocol: str,
    asked: Sequence[Question],
    answers: Sequence[np.ndarray],
    manifest: pd.DataFrame,
    settings: EvaluateSettings,
) -> pd.DataFrame:
    """Return UAR and its drop in every condition, with 95 % intervals by words.

    Parameters
    ----------
    protocol : str
    asked : sequence of Question
    answers : sequence of np.ndarray [shape=(conditions, labels)]
        What `ask` gave, in the order of `asked`.
    manifest : pd.DataFrame
    settings : EvaluateSettings

    Returns
    -------
    pd.DataFrame [columns=(protocol, condition, utterances, uar, low, high, drop, drop_low, drop_high, same_label)]
        `drop` is the UAR as recorded less that of the condition, `same_label` the share of answers that stay.
    """
    labels = _recognizer(asked[0].package).labels
    index = {label: number for number, label in enumerate(labels)}
    rows = manifest.set_index("id").loc[[one.id for one in asked]].reset_index()
    packages = np.array([one.package.name for one in asked])
    drawing = {
        "bins": settings.calibration_bins,
        "resamples": settings.bootstrap.resamples,
        "seed": settings.bootstrap.seed,
    }

    def folds(number: int) -> list[Predictions]:
        probabilities = np.stack([one[number] for one in answers])
        return [
            Predictions(
                rows["emotion"][own].map(index).to_numpy(),
                probabilities[own],
                list(rows["speaker"][own]),
                [text or name for text, name in zip(rows["text"][own], rows["id"][own], strict=True)],
            )
            for own in (packages == name for name in dict.fromkeys(packages))
        ]

    recorded = folds(0)
    table = []
    for number, condition in enumerate(CONDITIONS):
        changed = folds(number)
        drop = differences(recorded, changed, **drawing)["uar"]
        interval = intervals(changed, **drawing)["uar"]
        same = np.concatenate(
            [
                one.probabilities.argmax(axis=1) == other.probabilities.argmax(axis=1)
                for one, other in zip(recorded, changed, strict=True)
            ]
        )
        table.append(
            {
                "protocol": protocol,
                "condition": condition,
                "utterances": len(asked),
                "uar": float(np.mean([_uar(one) for one in changed])),
                "low": interval.low,
                "high": interval.high,
                "drop": drop.value,
                "drop_low": drop.interval.low,
                "drop_high": drop.interval.high,
                "same_label": float(same.mean()),
            }
        )
    return pd.DataFrame(table)


def markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown: a line a condition, two columns a protocol."""
    protocols = list(dict.fromkeys(table["protocol"]))
    counts = table.drop_duplicates("protocol").set_index("protocol")["utterances"]
    heads = " | ".join(f"{name}: UAR (95 %) | drop (95 %)" for name in protocols)
    asked = ", ".join(f"{counts[name]} of `{name}`" for name in protocols)
    lines = [
        f"Of a fixed part of the judged utterances: {asked}. A drop is the UAR as recorded less that of the condition. "
        "All in voices that the model knows: a left-out speaker's recordings are kept for `evaluate`.",
        "",
        f"| condition | {heads} |",
        "|---" * (2 * len(protocols) + 1) + "|",
    ]
    for condition, rows in table.groupby("condition", sort=False):
        cells = []
        for row in rows.to_dict("records"):
            cells.append(f"{row['uar']:.3f} ({row['low']:.3f} to {row['high']:.3f})")
            drop = f"{row['drop']:+.3f} ({row['drop_low']:+.3f} to {row['drop_high']:+.3f})"
            cells.append("" if condition == RECORDED else drop)
        lines.append(f"| {condition} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(table: pd.DataFrame, target: Path, *, corpus: str) -> None:
    """Write `table.csv`, `table.md` and `table.png` into the folder `target`, which is made."""
    with replacing_folder(target) as folder:
        with replacing(folder / "table.csv") as aside:
            table.to_csv(aside, index=False, lineterminator="\n", float_format="%.6f")
        write_text(folder / "table.md", markdown(table))
        plots.robustness(folder / "table.png", table, title=f"{corpus}: UAR when recordings are changed")


def _uar(fold: Predictions) -> float:
    return float(
        recall_score(fold.truth, fold.probabilities.argmax(axis=1), average="macro", labels=np.unique(fold.truth))
    )


@lru_cache(maxsize=4)
def _recognizer(package: Path) -> Recognizer:
    """Return a worker's recogniser of a package, loaded once."""
    return Recognizer.load(package)
