"""Run a function over items in processes of this machine; `ray_cluster` does the same on a Ray cluster."""

import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from speech_emotion.core.errors import UserError
from speech_emotion.core.process import die_with_parent

if TYPE_CHECKING:
    from speech_emotion.core.ray_cluster import Cluster

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""Variables for the number of threads of BLAS and TensorFlow, read when they are loaded."""


class WorkerKilledError(UserError):
    """A worker process was killed or crashed."""


def core_count() -> int:
    """Return the number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    function: Callable[[ItemT], ResultT],
    items: Sequence[ItemT],
    *,
    workers: int | None = None,
    cluster: "Cluster | None" = None,
) -> Iterator[ResultT]:
    """Apply a function to each item in processes and yield the results in order.

    BLAS has one thread in every worker: the bits of a matrix product depend on the number of threads, and results must
    not depend on the number of workers.

    `workers` is the number of processes (None: one per core); one worker is this process. On a `cluster`, an item whose
    node dies is computed again on another one. A killed or crashed worker raises a `WorkerKilledError`; results that
    were yielded before are complete.
    """
    if cluster is not None and items:
        from speech_emotion.core import ray_cluster

        yield from ray_cluster.parallel_map(function, items, cluster)
        return
    count = min(workers or core_count(), len(items))
    work = partial(with_threads, 1, function)
    if count <= 1:
        yield from map(work, items)
        return
    from concurrent.futures.process import BrokenProcessPool

    import joblib

    # joblib warns of results that nobody fetched after an error, and of workers that it replaces
    warnings.filterwarnings("ignore", module="joblib")
    pool = joblib.Parallel(count, return_as="generator", batch_size=1, max_nbytes=None, initializer=start_worker)
    try:
        yield from pool(joblib.delayed(work)(item) for item in items)
    except BrokenProcessPool:
        raise WorkerKilledError(
            "a worker process was killed or crashed; often memory is short. Use fewer workers: compute.workers in "
            "params.yaml, or --workers."
        ) from None


def with_threads(threads: int | None, function: Callable[[ItemT], ResultT], item: ItemT) -> ResultT:
    """Apply a function while BLAS has so many threads; None: no limit."""
    from threadpoolctl import threadpool_limits

    # not once when the worker starts: a library that is loaded later would not be limited
    with threadpool_limits(limits=threads):
        return function(item)


def start_worker() -> None:
    """Have a worker process die with its parent, and leave Ctrl-C to it."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
