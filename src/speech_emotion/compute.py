"""Takes a function and items; gives its results in order, computed by this machine's cores."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def core_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    function: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, workers: int | None = None
) -> Iterator[ResultT]:
    """Apply a function to each item, in processes, and yield the results in the items' order.

    Parameters
    ----------
    function : callable
        Importable by name (a module's function, or a `functools.partial` of one).
    items : sequence
        What it is applied to, one at a time.
    workers : int or None
        Processes; None: one a core. One worker works in this very process.

    Notes
    -----
    Each worker, a lone one too, keeps its BLAS to one thread: the bits of a matrix product differ between one thread
    and two, and so the same features come out whatever the number of workers.
    """
    count = min(workers or core_count(), len(items))
    if count <= 1:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            for item in items:
                yield function(item)
        return
    # spawn: a fork would carry the parent's threads' locks over
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max_workers=count, mp_context=context, initializer=_start_worker)
    try:
        yield from pool.map(function, items)
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _start_worker() -> None:
    from threadpoolctl import threadpool_limits

    from speech_emotion.stage import die_with_parent

    die_with_parent()
    threadpool_limits(limits=1)
