"""Extract the features of a corpus into Parquet shards, which `store` reads."""

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
from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.config.params import ComputeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, write_json
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.progress import track
from speech_emotion.features import object_store
from speech_emotion.features.mfcc import Extractor, names, spec_digest
from speech_emotion.features.store import INDEX, RECORDED, SCHEMA

SHARD_SIZE: Final = 128
"""Utterances per shard. Fixed, so that the files do not depend on the number of workers."""


class UtteranceVersion(Protocol):
    """A version of every recording: the original or an augmented copy."""

    @property
    def name(self) -> str:
        """Name in the feature store, also part of the shard's file name."""

    def frames(self, sound: Sound, utterance: str, settings: FeaturizeSettings) -> np.ndarray:
        """Return the features of `utterance` [shape=(t, coefficients)], float32."""


@dataclass(frozen=True)
class Recorded:
    """The original recording."""

    name: str = RECORDED

    def frames(self, sound: Sound, utterance: str, settings: FeaturizeSettings) -> np.ndarray:
        """Return the features of the original recording."""
        return extractor(settings)(sound.mono(settings.sample_rate))


@dataclass(frozen=True)
class ShardTask:
    """The inputs of one shard."""

    target: Path
    """Path of the shard in the workspace."""
    raw: Path
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    settings: FeaturizeSettings
    version: UtteranceVersion
    url: str | None = None
    """URL the worker writes to instead; the shard is then fetched from there."""


def shard_tasks(
    ids: Sequence[str],
    paths: Sequence[str],
    *,
    raw: Path,
    folder: Path,
    settings: FeaturizeSettings,
    version: UtteranceVersion = Recorded(),
) -> list[ShardTask]:
    """Divide the utterances of one version into shards, in order."""
    starts = range(0, len(ids), SHARD_SIZE)
    return [
        ShardTask(
            target=folder / f"{version.name}-{number:05d}.parquet",
            raw=raw,
            ids=tuple(ids[start : start + SHARD_SIZE]),
            paths=tuple(paths[start : start + SHARD_SIZE]),
            settings=settings,
            version=version,
        )
        for number, start in enumerate(starts)
    ]


def write_store(
    target: Path,
    folder: Path,
    tasks: Sequence[ShardTask],
    settings: FeaturizeSettings,
    augment: dict[str, Any],
    *,
    compute: ComputeSettings,
) -> int:
    """Write the shards of a feature store and its _features.json, on this machine or a cluster.

    If `compute.ray.shards` is set, cluster tasks write below that URL and each shard is fetched into the folder. All
    shards stay at the URL as well; _features.json is written there last.

    Parameters
    ----------
    target : Path
        Path of the store in the workspace, and below the URL.
    folder : Path
        Temporary folder that replaces `target`; the targets of `tasks` are in it.
    tasks : sequence of ShardTask
    settings : FeaturizeSettings
    augment : dict
        Settings of the augmented copies.
    compute : ComputeSettings

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    UserError
        A recording cannot be decoded, or the cluster or the storage does not respond.
    """
    url = compute.cluster.shards if compute.cluster else None
    there = object_store.join(url, target.relative_to(target.anchor).as_posix()) if url else None
    if there:
        object_store.remove(object_store.join(there, INDEX))  # it may describe other shards
        tasks = [replace(task, url=object_store.join(there, task.target.name)) for task in tasks]
    work = parallel_map(write_shard, tasks, workers=compute.workers, cluster=compute.cluster)
    shards = []
    for task, shard in zip(tasks, track(work, len(tasks), target.name, "shards"), strict=True):
        if task.url:
            _fetch(task.url, task.target, str(shard["sha256"]))
        shards.append(shard)
    write_index(folder, settings, shards, augment)
    if there:
        object_store.put(object_store.join(there, INDEX), (folder / INDEX).read_bytes())
    return sum(int(shard["frames"]) for shard in shards)


def _fetch(url: str, target: Path, sha256: str) -> None:
    content = object_store.fetch(url)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{url}: does not have the SHA-256 that the task reported. Does another extraction write to the same URL? "
            "Set another `compute.ray.shards`."
        )
    with replacing(target) as temporary:
        temporary.write_bytes(content)


def write_shard(task: ShardTask) -> dict[str, int | str]:
    """Extract and write one shard; return its entry in _features.json.

    Raise a UserError if a recording cannot be decoded or the shard cannot be written.
    """
    frames = []
    for name, path in zip(task.ids, task.paths, strict=True):
        try:
            frames.append(task.version.frames(decode(task.raw / path), name, task.settings))
        except AudioError as error:
            raise UserError(f"{task.raw / path}: {error}. It was readable in prepare: run `dvc repro` again.") from None
    table = pa.table(
        {
            "id": pa.array(task.ids, pa.string()),
            "version": pa.array([task.version.name] * len(frames), pa.string()),
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
        with replacing(task.target) as temporary:
            temporary.write_bytes(content)
    return {
        "file": task.target.name,
        "version": task.version.name,
        "rows": len(frames),
        "frames": sum(len(one) for one in frames),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


@lru_cache(maxsize=1)
def extractor(settings: FeaturizeSettings) -> Extractor:
    """Return the extractor of a worker, created once."""
    return Extractor(settings)


def write_index(
    folder: Path,
    settings: FeaturizeSettings,
    shards: list[dict[str, int | str]],
    augment: dict[str, Any] | None = None,
) -> None:
    """Write _features.json: settings, digest, shards and the settings of the augmented copies."""
    write_json(
        folder / INDEX,
        {
            "names": list(names(settings)),
            "augment": augment,
            "settings": settings.model_dump(mode="json"),
            "shards": shards,
            "spec_digest": spec_digest(settings),
        },
    )
