"""Takes a manifest's recordings; gives their features as sharded Parquet, which `store` reads."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from speech_emotion.audio.decode import AudioError, Sound, decode
from speech_emotion.config.compute import ComputeSettings
from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, write_json
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.progress import track
from speech_emotion.features import object_store
from speech_emotion.features.mfcc import Extractor, names, spec_digest
from speech_emotion.features.store import INDEX, RECORDED, SCHEMA

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
    """Where it has to lie in the end."""
    raw: Path
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    settings: FeaturizeSettings
    rendition: Rendition
    url: str | None = None
    """Where the worker writes it instead, if that is elsewhere."""


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


def write_store(
    target: Path,
    folder: Path,
    tasks: Sequence[ShardTask],
    settings: FeaturizeSettings,
    renditions: dict[str, Any],
    *,
    compute: ComputeSettings,
) -> int:
    """Write a store's shards and its _features.json, by this machine's workers or by those of a cluster.

    Where `compute.ray.shards` is set, the tasks of a cluster write below that URL. Each shard comes into the folder
    from there, and all stay there too, _features.json last, for whoever reads Parquet at its place.

    Parameters
    ----------
    target : Path
        The store's path in the workspace; below the URL it has the same.
    folder : Path
        What will take the target's place, to which `tasks` belong.
    tasks : sequence of ShardTask
    settings : FeaturizeSettings
    renditions : dict
        The settings of what is in the store beside the recordings as they are.
    compute : ComputeSettings

    Returns
    -------
    int
        How many frames there are.

    Raises
    ------
    UserError
        A recording cannot be decoded, the cluster does not answer, or the storage at the URL does not.
    """
    url = compute.cluster.shards if compute.cluster else None
    there = object_store.join(url, target.relative_to(target.anchor).as_posix()) if url else None
    if there:
        object_store.remove(object_store.join(there, INDEX))  # it would be that of other shards
        tasks = [replace(task, url=object_store.join(there, task.target.name)) for task in tasks]
    work = parallel_map(write_shard, tasks, workers=compute.workers, cluster=compute.cluster)
    shards = []
    for task, shard in zip(tasks, track(work, len(tasks), target.name, "shards"), strict=True):
        if task.url:
            _bring(task.url, task.target, str(shard["sha256"]))
        shards.append(shard)
    write_index(folder, settings, shards, renditions)
    if there:
        object_store.put(object_store.join(there, INDEX), (folder / INDEX).read_bytes())
    return sum(int(shard["frames"]) for shard in shards)


def _bring(url: str, target: Path, sha256: str) -> None:
    content = object_store.bring(url)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{url}: is not what the task has written. Does another extraction write to the same place? Give each a "
            "`compute.ray.shards` of its own."
        )
    with replacing(target) as aside:
        aside.write_bytes(content)


def write_shard(task: ShardTask) -> dict[str, int | str]:
    """Compute the features of one shard's recordings and write them; return the shard's entry in _features.json.

    Raises
    ------
    UserError
        A recording cannot be decoded, and it is named; or the shard cannot be written where the task says.
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
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False)
    content = sink.getvalue().to_pybytes()
    if task.url:
        object_store.put(task.url, content)
    else:
        with replacing(task.target) as aside:
            aside.write_bytes(content)
    return {
        "file": task.target.name,
        "voice": task.rendition.voice,
        "rows": len(frames),
        "frames": sum(len(one) for one in frames),
        "sha256": hashlib.sha256(content).hexdigest(),
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
    """Write _features.json: the specification, its digest, the shards, and the settings of other renditions."""
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
