"""Parallel work in processes of this machine and on a real Ray cluster of two raylets."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import psutil
import pytest
import soundfile

from helpers import services
from helpers.examples import featurize_settings
from helpers.jobs import kill_self, refuse, slow_first
from speech_emotion.config.base import parse_section
from speech_emotion.config.params import ComputeSettings, RaySettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder
from speech_emotion.core.parallel import WorkerKilledError, parallel_map
from speech_emotion.features.extract import SHARD_SIZE, ShardTask, shard_tasks, write_index, write_shard, write_store
from speech_emotion.features.store import FeatureStore
from speech_emotion.tuning.worker_group import cluster_room

pytest_plugins = ("helpers.cluster_fixtures",)

NODE_TASKS = 12


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_order_with_one_thread(workers: int) -> None:
    found = list(parallel_map(slow_first, range(8), workers=workers))

    assert found == [(number, 1) for number in range(8)]


def test_killed_worker_is_one_message() -> None:
    with pytest.raises(WorkerKilledError, match="a worker process was killed or crashed"):
        list(parallel_map(kill_self, range(8), workers=2))
    assert list(parallel_map(refuse, range(4), workers=2)) == list(range(4))


@pytest.mark.parametrize("workers", [1, 2])
def test_error_of_a_worker_is_raised(workers: int) -> None:
    with pytest.raises(UserError, match="5 is odd"):
        list(parallel_map(refuse, range(8), workers=workers))


PROGRAM = """
import os, time
from speech_emotion.core.parallel import parallel_map

def work(item):
    os.write(1, b"began\\n")
    time.sleep(600)

list(parallel_map(work, [1, 2], workers=2))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with subprocess.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.read(12) == b"began\nbegan\n"
            workers = psutil.Process(parent.pid).children(recursive=True)
            parent.send_signal(number)
            parent.wait(60)
        finally:
            parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=30)

    assert len(workers) >= 2
    assert alive == []


def test_shards_must_be_a_url() -> None:
    with pytest.raises(UserError, match=r"compute\.ray\.shards: allowed: a URL such as s3://.* not '/tmp/x'"):
        parse_section("compute", ComputeSettings, {"workers": None, "ray": {"shards": "/tmp/x"}})


def test_missing_cluster() -> None:
    with pytest.raises(UserError, match=r"no Ray cluster answers at '127.0.0.1:1'.*`ray start --head` starts one"):
        list(parallel_map(abs, [1, 2], cluster=RaySettings(address="127.0.0.1:1")))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(0)
    for number in range(SHARD_SIZE):
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(16000 + 500 * number), 16000)
    return folder


def tasks(raw: Path, folder: Path) -> list[ShardTask]:
    """Return shards of which each takes some time: every recording under several names."""
    folder.mkdir()
    names = range(SHARD_SIZE * NODE_TASKS)
    paths = [f"{number % SHARD_SIZE}.wav" for number in names]
    return shard_tasks([f"u{number}" for number in names], paths, raw=raw, folder=folder, settings=featurize_settings())


def finish(folder: Path, shards: list[dict[str, int | str]]) -> str:
    write_index(folder, featurize_settings(), shards)
    return digest(folder)


def digest(folder: Path) -> str:
    assert len(list(FeatureStore(folder).utterances())) == SHARD_SIZE * NODE_TASKS
    return digest_folder(folder)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A URL in a bucket, which a cluster that is started after it reaches too."""
    with services.s3("team") as address, pytest.MonkeyPatch.context() as patch:
        services.use_s3(address, patch)
        yield "s3://team/features"


@pytest.mark.slow
def test_killed_node_changes_no_features(
    raw: Path, tmp_path: Path, cluster: Any, kill_another: Callable[[list[Any]], None]
) -> None:
    here = finish(tmp_path / "here", list(parallel_map(write_shard, tasks(raw, tmp_path / "here"), workers=1)))
    settings = RaySettings(address=cluster.address)

    nodes = [cluster.add_node(num_cpus=1)]
    both = finish(tmp_path / "both", list(parallel_map(write_shard, tasks(raw, tmp_path / "both"), cluster=settings)))
    assert both == here

    nodes.append(cluster.add_node(num_cpus=1))
    shards = []
    for shard in parallel_map(write_shard, tasks(raw, tmp_path / "killed"), cluster=settings):
        shards.append(shard)
        if len(shards) == 2:
            kill_another(nodes)
    assert finish(tmp_path / "killed", shards) == here


@pytest.mark.slow
def test_killed_node_loses_no_shard_in_bucket(
    raw: Path, tmp_path: Path, bucket: str, cluster: Any, kill_another: Callable[[list[Any]], None]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    local, remote = ComputeSettings(workers=1), RaySettings(address=cluster.address, shards=bucket)
    write_store(Path("data/x/features"), here, tasks(raw, here), featurize_settings(), {}, compute=local)
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    storage, root = fsspec.url_to_fs(bucket)
    left: list[int] = []

    def kill_one_in_the_middle() -> None:
        while len(storage.find(root, refresh=True)) < 2:
            time.sleep(0.05)
        kill_another(nodes)
        left.append(NODE_TASKS - len(storage.find(root, refresh=True)))

    killer = threading.Thread(target=kill_one_in_the_middle)
    killer.start()
    compute = ComputeSettings(workers=None, backend="ray", ray=remote)
    write_store(Path("data/x/features"), there, tasks(raw, there), featurize_settings(), {}, compute=compute)
    killer.join()

    assert left[0] > 0
    assert digest(there) == digest(here)
    storage.get(f"{root}/data/x/features", str(tmp_path / "kept"), recursive=True)
    assert digest(tmp_path / "kept") == digest(here)


@pytest.mark.slow
def test_mistakes_on_a_cluster(raw: Path, tmp_path: Path, cluster: Any) -> None:
    ray = RaySettings(address=cluster.address, shards="file:///proc/here")
    compute = ComputeSettings(workers=None, backend="ray", ray=ray)
    work = tasks(raw, tmp_path / "features")[:1]

    with pytest.raises(UserError, match=r"file:///proc/here/data/x/recorded-00000\.parquet: cannot be written"):
        write_store(Path("data/x"), tmp_path / "features", work, featurize_settings(), {}, compute=compute)
    with pytest.raises(UserError, match=r"nowhere.*0\.wav") as error:
        list(parallel_map(write_shard, [replace(work[0], raw=tmp_path / "nowhere")], cluster=ray))
    assert "Traceback" not in str(error.value)
    with pytest.raises(UserError, match=r"no node of the cluster .* can hold a task of 64 CPUs"):
        cluster_room(RaySettings(address=cluster.address, cpus=64.0))
