"""Decode and check every recording of a corpus; build the manifest and the list of bad recordings."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from speech_emotion.audio.decode import AudioError, Sound, decode
from speech_emotion.config.data import PrepareSettings
from speech_emotion.core.errors import UserError, listing
from speech_emotion.core.io import open_regular_file
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.progress import track
from speech_emotion.data.corpora.base import Corpus, Utterance
from speech_emotion.data.emotions import common_names
from speech_emotion.data.manifest import BAD_COLUMNS, DECIMALS, SCHEMA, Manifest, write_bad

_SHOWN = 8


@dataclass(frozen=True)
class Measured:
    """One recording: the manifest's columns from `sample_rate` to `sha256`, or why it cannot be used."""

    sample_rate: int = 0
    channels: int = 0
    seconds: float = 0.0
    rms_dbfs: float = 0.0
    peak_dbfs: float = 0.0
    sha256: str = ""
    bad: str = ""


def build(
    corpus: Corpus,
    raw: Path,
    *,
    settings: PrepareSettings,
    labels: Mapping[str, str | None] = MappingProxyType({}),
    workers: int | None = None,
) -> Manifest:
    """Decode and measure every recording of a corpus in `raw`, with `workers` processes (None: one per core).

    `labels` are the new names of labels; recordings with a label that becomes None are left out. Usual names of the
    same emotion, such as `fear` and `fearful`, become one label if they come from several corpora.
    """
    utterances = _relabelled(corpus.utterances(raw), labels)
    if not utterances:
        raise UserError(f"{raw}: has no utterances. Run `dvc repro download`.")
    paths = [raw / one.path for one in utterances]
    measuring = parallel_map(partial(measure, settings=settings), paths, workers=workers)
    measured = list(track(measuring, len(paths), "checking", "recordings"))
    reasons = _reasons(utterances, measured)
    known = attrgetter("corpus", "speaker", "sex", "emotion", "text")
    rows = [
        (name, one.path.as_posix(), *known(one), *astuple(sound)[:-1], one.part)
        for name, one, sound, reason in zip(_ids(utterances), utterances, measured, reasons, strict=True)
        if not reason
    ]
    bad = [(one.path.as_posix(), reason) for one, reason in zip(utterances, reasons, strict=True) if reason]
    good = pd.DataFrame(rows, columns=list(SCHEMA)).astype({name: column.type for name, column in SCHEMA.items()})
    return Manifest(good, pd.DataFrame(bad, columns=list(BAD_COLUMNS), dtype="str"))


def refuse_bad(manifest: Manifest, settings: PrepareSettings, *, report: Path) -> None:
    """Write the list of bad recordings to `report`, and raise a `UserError` unless the settings leave them out."""
    report.unlink(missing_ok=True)
    if manifest.bad.empty:
        return
    write_bad(report, manifest.bad)
    count = len(manifest.bad)
    lines = [f"{path}: {reason}" for path, reason in manifest.bad.itertuples(index=False)]
    if settings.bad_recordings == "leave_out":
        print(f"left out:\n{listing(lines)}", flush=True)
        return
    raise UserError(
        f"{count} of {count + len(manifest.good)} recordings cannot be used:\n{listing(lines)}\n"
        f"All are listed in {report}. Repair or remove them in your copy, "
        "or set prepare.bad_recordings to 'leave_out' in params.yaml."
    )


def describe(manifest: Manifest) -> str:
    """Return labels and speakers with the number of their utterances, and the total seconds."""
    good = manifest.good

    def counts(column: str) -> str:
        found = good[column].value_counts(sort=False).sort_index()
        shown = ", ".join(f"{name or 'unknown'} ({count})" for name, count in found.head(_SHOWN).items())
        return f"{len(found)}, such as {shown}" if len(found) > _SHOWN else shown

    left_out = f", {len(manifest.bad)} left out" if len(manifest.bad) else ""
    corpora = f"corpora: {counts('corpus')}\n" if good["corpus"].any() else ""
    return (
        f"{len(good):,} recordings, {good['seconds'].sum():,.0f} s{left_out}\n{corpora}"
        f"labels: {counts('emotion')}\nspeakers: {counts('speaker')}"
    )


def _relabelled(utterances: Sequence[Utterance], labels: Mapping[str, str | None]) -> list[Utterance]:
    known = {one.emotion for one in utterances}
    if unknown := sorted(labels.keys() - known):
        raise UserError(
            f"params.yaml: corpus.labels: no recording is labelled '{unknown[0]}'. Labels: {', '.join(sorted(known))}."
        )
    renamed = [(one, labels.get(one.emotion, one.emotion)) for one in utterances]
    kept = [replace(one, emotion=emotion) for one, emotion in renamed if emotion]
    common = common_names((one.corpus, one.emotion) for one in kept)
    for label, name in sorted(common.items()):
        print(f"label '{label}' renamed to '{name}', a usual name of the same emotion (to change this: corpus.labels)")
    return [replace(one, emotion=common.get(one.emotion, one.emotion)) for one in kept]


def measure(path: Path, *, settings: PrepareSettings) -> Measured:
    """Decode and measure one recording."""
    try:
        with open_regular_file(path) as file:
            data = file.read()
        sound = decode(data, max_seconds=settings.max_seconds)
    except OSError as error:
        return Measured(bad=f"cannot be read ({error.strerror})")
    except AudioError as error:
        return Measured(bad=str(error))
    digest = hashlib.sha256(data).hexdigest()
    rms, peak = _dbfs(float(np.sqrt(np.mean(np.square(sound.samples, dtype=np.float64))))), _dbfs(sound.peak)
    bad = _reason(sound, peak, settings)
    return Measured(sound.sample_rate, sound.channels, round(sound.seconds, DECIMALS), rms, peak, digest, bad)


def _reason(sound: Sound, peak_dbfs: float, settings: PrepareSettings) -> str:
    """Return why a decoded recording cannot be used; "" if it can."""
    if sound.truncated:
        promised = (sound.declared_frames or 0) / sound.sample_rate
        return f"is cut off: {sound.seconds:.2f} s of {promised:.2f} s"
    if sound.seconds < settings.min_seconds:
        return f"is too short: {sound.seconds:.3f} s, at least {settings.min_seconds:g} s are needed"
    if peak_dbfs < settings.silence_dbfs:
        return f"is silent: its peak of {peak_dbfs:.1f} dBFS is below {settings.silence_dbfs:g} dBFS"
    return ""


def _reasons(utterances: Sequence[Utterance], measured: Sequence[Measured]) -> list[str]:
    """Return why each recording cannot be used, contradictions between recordings included."""
    same: dict[str, list[Utterance]] = {}
    for one, sound in zip(utterances, measured, strict=True):
        same.setdefault(sound.sha256, []).append(one)
    reasons = []
    for one, sound in zip(utterances, measured, strict=True):
        labels = (one.emotion, one.speaker, one.text)
        others = [other for other in same[sound.sha256] if (other.emotion, other.speaker, other.text) != labels]
        contradiction = f"has the same bytes as {others[0].path.as_posix()}, which has other labels" if others else ""
        reasons.append(sound.bad or contradiction)
    return reasons


def _ids(utterances: Sequence[Utterance]) -> list[str]:
    """Return each path without suffix, or with it if two recordings differ only in that."""
    bare = [one.path.with_suffix("").as_posix() for one in utterances]
    counts = Counter(bare)
    return [name if counts[name] == 1 else one.path.as_posix() for name, one in zip(bare, utterances, strict=True)]


def _dbfs(amplitude: float) -> float:
    return round(20 * math.log10(amplitude), DECIMALS) if amplitude > 0 else -math.inf
