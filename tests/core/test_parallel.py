"""Work shared among processes of this machine and among the nodes of a real Ray cluster of two raylets."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import soundfile

from helpers import services
from helpers.examples import featurize_settings
from speech_emotion.config.base import parse_section
from speech_emotion.config.params import ComputeSettings, RaySettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder
from speech_emotion.core.parallel import THREADS, cluster_room, core_count, crew, parallel_map
from speech_emotion.features.extract import SHARD_SIZE, ShardTask, shard_tasks, write_index, write_shard, write_store
from speech_emotion.features.store import FeatureStore

pytest_plugins = ("helpers.cluster_fixtures",)

NODE_TASKS = 12


def tell(folder: Path, name: str) -> None:
    (folder / name).write_text(" ".join(os.environ.get(one, "-") for one in THREADS))


def die_or_tell(folder: Path, name: str) -> None:
    if name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    tell(folder, name)


def test_the_cores_are_divided_among_a_crew(tmp_path: Path) -> None:
    before = {name: os.environ.get(name) for name in THREADS}  # who has loaded TensorFlow has one thread of it

    with crew(partial(tell, tmp_path), ["one", "two"]) as workers:
        assert not workers.wait(60)

    threads = str(max(1, core_count() // 2))
    assert (tmp_path / "one").read_text().split() == [threads] * len(THREADS)
    assert workers.losses == []
    assert {name: os.environ.get(name) for name in THREADS} == before


def test_one_of_a_crew_that_is_killed_leaves_the_others_at_work(tmp_path: Path) -> None:
    with crew(partial(die_or_tell, tmp_path), ["dies", "lives"]) as workers:
        assert not workers.wait(60)

    assert (tmp_path / "lives").exists()
    [loss] = workers.losses
    assert "was killed by signal 9" in loss


def test_a_crew_ends_with_the_block_that_it_works_in() -> None:
    began = time.monotonic()
    with crew(time.sleep, [60.0]) as workers:
        assert workers.wait(0.2)

    assert time.monotonic() - began < 30
    assert "was killed" in workers.losses[0]


def test_only_the_backend_ray_has_a_cluster() -> None:
    assert ComputeSettings(workers=None).cluster is None
    assert ComputeSettings(workers=None, backend="ray").cluster == RaySettings()


def test_a_path_that_is_no_url_is_told_what_one_looks_like() -> None:
    with pytest.raises(UserError, match=r"compute\.ray\.shards: allowed: a URL such as s3://.* not '/tmp/x'"):
        parse_section("compute", ComputeSettings, {"workers": None, "ray": {"shards": "/tmp/x"}})


def test_a_cluster_that_does_not_answer_says_how_to_start_one() -> None:
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
def test_two_nodes_give_the_features_of_this_machine_byte_for_byte_though_one_is_killed(
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
def test_nodes_leave_shards_in_a_bucket_from_which_they_come_though_one_is_killed(
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
def test_a_node_that_may_not_write_where_it_should_says_so(raw: Path, tmp_path: Path, cluster: Any) -> None:
    compute = ComputeSettings(
        workers=None, backend="ray", ray=RaySettings(address=cluster.address, shards="file:///proc/here")
    )
    work = tasks(raw, tmp_path / "features")[:1]

    with pytest.raises(UserError, match=r"file:///proc/here/data/x/recorded-00000\.parquet: cannot be written"):
        write_store(Path("data/x"), tmp_path / "features", work, featurize_settings(), {}, compute=compute)


@pytest.mark.slow
def test_a_mistake_on_a_node_is_told_as_it_is_here(raw: Path, tmp_path: Path, cluster: Any) -> None:
    work = tasks(raw, tmp_path / "features")
    missing = replace(work[0], raw=tmp_path / "nowhere")

    with pytest.raises(UserError, match=r"nowhere.*0\.wav") as error:
        list(parallel_map(write_shard, [missing], cluster=RaySettings(address=cluster.address)))

    assert "Traceback" not in str(error.value)


@pytest.mark.slow
def test_a_task_for_which_no_node_has_room_is_refused(cluster: Any) -> None:
    with pytest.raises(UserError, match=r"no node of the cluster .* can hold a task of 64 CPUs"):
        cluster_room(RaySettings(address=cluster.address, cpus=64.0))
