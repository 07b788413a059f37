"""Run a function on items at the same time, each in a process of its own or a task of a Ray cluster."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from speech_emotion.core.errors import UserError
from speech_emotion.core.parallel import THREADS, ItemT, core_count
from speech_emotion.core.process import die_with_parent, environment
from speech_emotion.core.ray_cluster import Cluster, result, session, start


@contextmanager
def worker_group(
    function: Callable[[ItemT], None], items: Sequence[ItemT], *, cluster: Cluster | None = None
) -> "Iterator[LocalWorkers | RayWorkers]":
    """Run a function on all items at the same time, each in a process of its own or a task of a cluster.

    If a process dies, the others continue. If a node of the cluster dies, its task is started again on another one.
    Ctrl-C reaches only the caller. Processes that still run at the end of the block are killed.
    """
    if cluster is None:
        local = LocalWorkers(function, items)
        try:
            yield local
        finally:
            local.end()
        return
    with session(cluster) as ray:
        yield RayWorkers(ray, start(ray, function, items, cluster, threads=None))


class LocalWorkers:
    """Processes of this machine, which share its cores."""

    def __init__(self, function: Callable[[ItemT], None], items: Sequence[ItemT]) -> None:
        context = get_context("spawn")  # a fork would copy locks that other threads hold
        self._processes = [context.Process(target=_run_member, args=(function, item)) for item in items]
        threads = str(max(1, core_count() // max(1, len(items))))
        variables = dict.fromkeys(THREADS, threads) | {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        with environment(variables), _without_interrupt():
            for process in self._processes:
                process.start()

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for all processes; return whether any is still running."""
        end = time.monotonic() + seconds
        for process in self._processes:
            process.join(max(0.0, end - time.monotonic()))
        return any(process.is_alive() for process in self._processes)

    @property
    def losses(self) -> list[str]:
        """One sentence for each process that failed."""
        failed = [(process.pid, process.exitcode) for process in self._processes if process.exitcode]
        return [
            f"worker {pid} was killed by signal {-code}" if code < 0 else f"worker {pid} ended with status {code}"
            for pid, code in failed
        ]

    def end(self) -> None:
        """Kill the processes that still run."""
        for process in self._processes:
            process.kill()
            process.join()


class RayWorkers:
    """Tasks of a cluster; as `LocalWorkers`."""

    def __init__(self, ray: Any, tasks: list[Any]) -> None:
        self._ray = ray
        self._running = tasks
        self.losses: list[str] = []

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for all tasks; return whether any is still running."""
        ended, self._running = self._ray.wait(self._running, num_returns=len(self._running), timeout=seconds)
        for task in ended:
            try:
                result(self._ray, task)
            except UserError as error:
                self.losses.append(str(error))
            except Exception as error:  # of the worker itself; the others continue
                self.losses.append(f"{type(error).__name__}: {error}")
        return bool(self._running)


def cluster_room(cluster: Cluster) -> int:
    """Return the number of tasks that a cluster can run at the same time."""
    with session(cluster) as ray:
        total = ray.cluster_resources()
    needs = {"CPU": cluster.cpus, "GPU": cluster.gpus}
    room = int(min(total.get(name, 0.0) / need for name, need in needs.items() if need))
    if room < 1:
        raise UserError(
            f"compute.ray: no node of the cluster at '{cluster.address}' can hold a task of {cluster.cpus:g} CPUs and "
            f"{cluster.gpus:g} GPUs; all of them together have {total.get('CPU', 0):g} and {total.get('GPU', 0):g}."
        )
    return room


def _run_member(function: Callable[[ItemT], None], item: ItemT) -> None:
    die_with_parent()
    try:
        function(item)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Start processes so that they ignore Ctrl-C from the beginning."""
    main_thread = threading.current_thread() is threading.main_thread()
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN) if main_thread else None
    try:
        yield
    finally:
        if main_thread:
            signal.signal(signal.SIGINT, interrupt)
