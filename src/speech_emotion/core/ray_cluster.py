"""Run a function over items on a Ray cluster."""

import logging
import os
import platform
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from speech_emotion.core.errors import UserError, first_line
from speech_emotion.core.parallel import THREADS, ItemT, ResultT, with_threads

RETRIES: Final = 5
"""How often Ray restarts a task whose node or process died."""


class Cluster(Protocol):
    """Address (`auto`, or host:port of the head) and resources of one task: `compute.ray` of params.yaml."""

    address: str
    cpus: float
    gpus: float


def parallel_map(function: Callable[[ItemT], ResultT], items: Sequence[ItemT], cluster: Cluster) -> Iterator[ResultT]:
    """Apply a function to each item and yield the results in order; see `parallel.parallel_map`."""
    with session(cluster) as ray:
        for task in start(ray, function, items, cluster, threads=1):
            yield result(ray, task)


@contextmanager
def session(cluster: Cluster) -> Iterator[Any]:
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
            f"compute.ray.address: no Ray cluster answers at '{cluster.address}' ({first_line(error)}). "
            "`ray start --head` starts one; see docs/scaling.md."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def start(ray: Any, function: Callable, items: Sequence, cluster: Cluster, *, threads: int | None) -> list[Any]:
    """Start a task for each item; `threads` of BLAS, None: one per core of the task."""
    task = ray.remote(_task).options(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=RETRIES)
    return [task.remote(function, item, os.getcwd(), threads) for item in items]


def result(ray: Any, task: Any) -> Any:
    """Wait for a task, and return its result or raise its error; a lost task is a UserError."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # without Ray's own traceback
    except ray.exceptions.RayError as error:
        raise UserError(f"the cluster lost a task for good ({first_line(error)}).") from None


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
