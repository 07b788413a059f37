"""Run a function over items on a Ray cluster."""

import logging
import os
import platform
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from speech_emotion.core.errors import UserError
from speech_emotion.core.parallel import THREADS, ItemT, ResultT, with_threads

RETRIES: Final = 5
"""How often Ray restarts a task whose node or process died."""


class Cluster(Protocol):
    """Address (`auto`, or host:port of the head) and resources of one task: `compute.ray` of params.yaml."""

    address: str
    cpus: float
    gpus: float


class RayWorkers:
    """Tasks of a cluster; see `parallel.LocalWorkers`."""

    def __init__(self, ray: Any, tasks: list[Any]) -> None:
        self._ray = ray
        self._running = tasks
        self.losses: list[str] = []

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for all tasks; return whether any is still running."""
        ended, self._running = self._ray.wait(self._running, num_returns=len(self._running), timeout=seconds)
        for task in ended:
            try:
                _result(self._ray, task)
            except UserError as error:
                self.losses.append(str(error))
        return bool(self._running)


@contextmanager
def ray_workers(function: Callable[[ItemT], None], items: Sequence[ItemT], cluster: Cluster) -> Iterator[RayWorkers]:
    """Run a function on all items at the same time; see `parallel.worker_group`."""
    with _session(cluster) as ray:
        yield RayWorkers(ray, _start(ray, function, items, cluster, threads=None))


def parallel_map(function: Callable[[ItemT], ResultT], items: Sequence[ItemT], cluster: Cluster) -> Iterator[ResultT]:
    """Apply a function to each item and yield the results in order; see `parallel.parallel_map`."""
    with _session(cluster) as ray:
        for task in _start(ray, function, items, cluster, threads=1):
            yield _result(ray, task)


def cluster_room(cluster: Cluster) -> int:
    """Return the number of tasks that a cluster can run at the same time."""
    with _session(cluster) as ray:
        total = ray.cluster_resources()
    needs = {"CPU": cluster.cpus, "GPU": cluster.gpus}
    room = int(min(total.get(name, 0.0) / need for name, need in needs.items() if need))
    if room < 1:
        raise UserError(
            f"compute.ray: no node of the cluster at '{cluster.address}' can hold a task of {cluster.cpus:g} CPUs and "
            f"{cluster.gpus:g} GPUs; all of them together have {total.get('CPU', 0):g} and {total.get('GPU', 0):g}."
        )
    return room


@contextmanager
def _session(cluster: Cluster) -> Iterator[Any]:
    """Connect to a cluster and send it the code of this library; disconnecting ends its tasks."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("compute.backend 'ray' needs the package ray: pip install '.[cluster]'") from None
    try:
        host, _, port = cluster.address.rpartition(":")
        if host and port.isdigit():  # Ray itself would retry for minutes
            socket.create_connection((host, int(port)), timeout=5).close()
        code = {"py_modules": [str(Path(__file__).resolve().parent.parent)]}
        ray.init(cluster.address, runtime_env=code, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"compute.ray.address: no Ray cluster answers at '{cluster.address}' ({str(error).splitlines()[0][:160]}). "
            "`ray start --head` starts one; see docs/scaling.md."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, function: Callable, items: Sequence, cluster: Cluster, *, threads: int | None) -> list[Any]:
    task = ray.remote(_task).options(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=RETRIES)
    return [task.remote(function, item, os.getcwd(), threads) for item in items]


def _result(ray: Any, task: Any) -> Any:
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # without Ray's own traceback
    except ray.exceptions.RayError as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"the cluster lost a task for good ({type(error).__name__}: {reason}).") from None


def _task(function: Callable[[ItemT], ResultT], item: ItemT, folder: str, threads: int | None) -> ResultT:
    """Process one item in a Ray worker, in the working folder of the command."""
    try:
        os.chdir(folder)
    except OSError:
        raise UserError(
            f"{folder}: node {platform.node()} does not have this folder. The workspace has to lie on a file system "
            "that every node sees under the same path: docs/scaling.md."
        ) from None
    if threads is None:  # Ray sets OMP_NUM_THREADS to the number of cores of the task
        for name in THREADS:
            os.environ.setdefault(name, os.environ.get("OMP_NUM_THREADS", "1"))
    return with_threads(threads, function, item)
