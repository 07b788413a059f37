"""Takes a manifest's recordings; gives their features as sharded Parquet, which `store` reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from speech_emotion.audio import AudioError, load
from speech_emotion.errors import UserError
from speech_emotion.features import Extractor, coefficient_count, spec_digest
from speech_emotion.files import digest_file, replacing, write_json
from speech_emotion.settings.featurize import FeaturizeSettings
from speech_emotion.store import INDEX, SCHEMA

SHARD_SIZE: Final = 128
"""Utterances a shard: a fixed number, so that the files do not depend on how many workers write them."""


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write one shard."""

    target: Path
    raw: Path
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    settings: FeaturizeSettings


def shard_tasks(
    ids: Sequence[str], paths: Sequence[str], *, raw: Path, folder: Path, settings: FeaturizeSettings
) -> list[ShardTask]:
    """Divide utterances into shards, in the order given."""
    starts = range(0, len(ids), SHARD_SIZE)
    return [
        ShardTask(
            target=folder / f"part-{number:05d}.parquet",
            raw=raw,
            ids=tuple(ids[start : start + SHARD_SIZE]),
            paths=tuple(paths[start : start + SHARD_SIZE]),
            settings=settings,
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
    extractor = Extractor(task.settings)
    frames = []
    for path in task.paths:
        try:
            frames.append(extractor(load(task.raw / path, task.settings.sample_rate)))
        except AudioError as error:
            raise UserError(
                f"{task.raw / path}: {error}. It was sound when prepare saw it: run dvc repro again."
            ) from None
    table = pa.table(
        {
            "id": pa.array(task.ids, pa.string()),
            "n_frames": pa.array([len(one) for one in frames], pa.int32()),
            "frames": pa.array([one.ravel() for one in frames], pa.list_(pa.float32())),
        },
        schema=SCHEMA,
    )
    with replacing(task.target) as aside:
        pq.write_table(table, aside, compression="zstd", use_dictionary=False, write_statistics=False)
    return {
        "file": task.target.name,
        "rows": len(frames),
        "frames": sum(len(one) for one in frames),
        "sha256": digest_file(task.target),
    }


def write_index(folder: Path, settings: FeaturizeSettings, shards: list[dict[str, int | str]]) -> None:
    """Write features.json: the specification, its digest, and the shards."""
    write_json(
        folder / INDEX,
        {
            "coefficients": coefficient_count(settings),
            "settings": settings.model_dump(mode="json"),
            "shards": shards,
            "spec_digest": spec_digest(settings),
        },
    )
