"""Takes a manifest's recordings; gives their features as sharded Parquet, which `store` reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from speech_emotion.audio import AudioError, Sound, decode
from speech_emotion.errors import UserError
from speech_emotion.features import Extractor, names, spec_digest
from speech_emotion.files import digest_file, replacing, write_json
from speech_emotion.settings.featurize import FeaturizeSettings
from speech_emotion.store import INDEX, RECORDED, SCHEMA

SHARD_SIZE: Final = 128
"""Utterances a shard: a fixed number, so that the files do not depend on how many workers write them."""


class Rendition(Protocol):
    """A way to hear a recording: as it is, or as it would be in another voice or place."""

    @property
    def voice(self) -> str:
        """Its name in the store, which can be part of a file's name."""

    def frames(self, sound: Sound, name: str, settings: FeaturizeSettings) -> np.ndarray:
        """Return the features [shape=(t, coefficients)], float32, of the recording of utterance `name`."""


@dataclass(frozen=True)
class Recorded:
    """A recording as it is."""

    voice: str = RECORDED

    def frames(self, sound: Sound, name: str, settings: FeaturizeSettings) -> np.ndarray:
        """Return the features of the recording itself."""
        return _extractor(settings)(sound.mono(settings.sample_rate))


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write one shard."""

    target: Path
    raw: Path
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    settings: FeaturizeSettings
    rendition: Rendition


def shard_tasks(
    ids: Sequence[str],
    paths: Sequence[str],
    *,
    raw: Path,
    folder: Path,
    settings: FeaturizeSettings,
    rendition: Rendition = Recorded(),
) -> list[ShardTask]:
    """Divide utterances into shards of one rendition, in the order given."""
    starts = range(0, len(ids), SHARD_SIZE)
    return [
        ShardTask(
            target=folder / f"{rendition.voice}-{number:05d}.parquet",
            raw=raw,
            ids=tuple(ids[start : start + SHARD_SIZE]),
            paths=tuple(paths[start : start + SHARD_SIZE]),
            settings=settings,
            rendition=rendition,
        )
        for number, start in enumerate(starts)
    ]


def write_shard(task: ShardTask) -> dict[str, int | str]:
    """Compute the features of one shard's recordings and write them; return the shard's entry in features.json.

    Raises
    ------
    UserError
        A recording cannot be decoded; names it.
    """
    frames = []
    for name, path in zip(task.ids, task.paths, strict=True):
        try:
            frames.append(task.rendition.frames(decode(task.raw / path), name, task.settings))
        except AudioError as error:
            raise UserError(
                f"{task.raw / path}: {error}. It was sound when prepare saw it: run dvc repro again."
            ) from None
    table = pa.table(
        {
            "id": pa.array(task.ids, pa.string()),
            "voice": pa.array([task.rendition.voice] * len(frames), pa.string()),
            "n_frames": pa.array([len(one) for one in frames], pa.int32()),
            "frames": pa.array([one.ravel() for one in frames], pa.list_(pa.float32())),
        },
        schema=SCHEMA,
    )
    with replacing(task.target) as aside:
        pq.write_table(table, aside, compression="zstd", use_dictionary=False, write_statistics=False)
    return {
        "file": task.target.name,
        "voice": task.rendition.voice,
        "rows": len(frames),
        "frames": sum(len(one) for one in frames),
        "sha256": digest_file(task.target),
    }


@lru_cache(maxsize=1)
def _extractor(settings: FeaturizeSettings) -> Extractor:
    """Return a worker's extractor, made once."""
    return Extractor(settings)


def write_index(
    folder: Path,
    settings: FeaturizeSettings,
    shards: list[dict[str, int | str]],
    renditions: dict[str, Any] | None = None,
) -> None:
    """Write features.json: the specification, its digest, the shards, and the settings of other renditions."""
    write_json(
        folder / INDEX,
        {
            "names": list(names(settings)),
            "renditions": renditions,
            "settings": settings.model_dump(mode="json"),
            "shards": shards,
            "spec_digest": spec_digest(settings),
        },
    )
