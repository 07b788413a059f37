"""Run a function over items in processes of this machine or on a Ray cluster."""

import logging
import multiprocessing
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from speech_emotion.core.errors import UserError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

RETRIES: Final = 5
"""Number of times Ray restarts a task whose node or process died."""

THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""Variables for the number of threads of BLAS and TensorFlow, read when they are loaded."""


class Cluster(Protocol):
    """A Ray cluster and the resources of one task; the section `compute.ray` of params.yaml has these."""

    @property
    def address(self) -> str:
        """`auto`, or host:port of the head."""

    @property
    def cpus(self) -> float:
        """CPUs per task."""

    @property
    def gpus(self) -> float:
        """GPUs per task."""


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

    Parameters
    ----------
    function : callable
        Importable by name (a module's function, or a `functools.partial` of one).
    items : sequence
        What it is applied to, one at a time.
    workers : int or None
        Processes of this machine; None: one a core. One worker works in this very process.
    cluster : Cluster or None
        A cluster that does it instead, as many items at once as its resources allow. An item whose node dies is
        computed again on another; what was finished is kept.

    Raises
    ------
    UserError
        Of the function; or the cluster does not answer, or has lost an item more than `RETRIES` times.

    Notes
    -----
    Each worker, a lone one too, keeps its BLAS to one thread: the bits of a matrix product differ between one thread
    and two, and so the same features come out whatever the number of workers, here or on a cluster.
    """
    if cluster is not None and items:
        yield from _map_on_cluster(function, items, cluster)
        return
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
        yield from pool.map(partial(_with_one_thread, function), items)
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


class Crew(Protocol):
    """Workers, each in a process of its own, that share work."""

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for all workers; return whether any is still running."""

    @property
    def losses(self) -> list[str]:
        """One sentence for each worker that failed."""


@contextmanager
def crew(
    function: Callable[[ItemT], None], items: Sequence[ItemT], *, cluster: "Cluster | None" = None
) -> Iterator[Crew]:
    """Run a function on all items at the same time; if a worker dies, the others continue.

    Parameters
    ----------
    function : callable
        Importable by name.
    items : sequence
        One a worker.
    cluster : Cluster or None
        A cluster whose tasks the workers are; there, one whose node dies is started again on another. None: processes
        of this machine, among which the threads of BLAS and TensorFlow are divided.

    Yields
    ------
    Crew
        Ctrl-C reaches the caller alone. Whoever still works at the end of the block is ended.
    """
    if cluster is None:
        local = _LocalCrew(function, items, threads=max(1, core_count() // max(1, len(items))))
        try:
            yield local
        finally:
            local.end()
        return
    with _session(cluster) as ray:
        tasks = _RayCrew(ray, function, items, cluster)
        try:
            yield tasks
        finally:
            tasks.end()


def cluster_room(cluster: "Cluster") -> int:
    """Return the number of tasks that a cluster can run at the same time."""
    with _session(cluster) as ray:
        total = ray.cluster_resources()
    room = [total.get("CPU", 0.0) / cluster.cpus]
    if cluster.gpus:
        room.append(total.get("GPU", 0.0) / cluster.gpus)
    if min(room) < 1:
        raise UserError(
            f"compute.ray: no node of the cluster at '{cluster.address}' can hold a task of {cluster.cpus:g} CPUs and "
            f"{cluster.gpus:g} GPUs; all of them together have {total.get('CPU', 0):g} and {total.get('GPU', 0):g}."
        )
    return int(min(room))


class _LocalCrew:
    """Processes of this machine."""

    def __init__(self, function: Callable[[ItemT], None], items: Sequence[ItemT], *, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes = [context.Process(target=_member, args=(function, item), daemon=False) for item in items]
        variables = {name: str(threads) for name in THREADS} | {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        with _environment(variables), _ignoring_ctrl_c():
            for process in self._processes:
                process.start()

    def wait(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while running := [process.sentinel for process in self._processes if process.is_alive()]:
            left = end - time.monotonic()
            if left <= 0:
                return True
            wait(running, timeout=left)
        return False

    @property
    def losses(self) -> list[str]:
        codes = [(process.pid, process.exitcode) for process in self._processes]
        return [
            f"worker {pid} was killed by signal {-code}" if code < 0 else f"worker {pid} ended with status {code}"
            for pid, code in codes
            if code
        ]

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


class _RayCrew:
    """Tasks of a cluster."""

    def __init__(self, ray: Any, function: Callable[[ItemT], None], items: Sequence[ItemT], cluster: "Cluster") -> None:
        self._ray = ray
        task = _remote(ray, cluster)
        self._running = [task.remote(function, item, os.getcwd(), None) for item in items]
        self._losses: list[str] = []

    def wait(self, seconds: float) -> bool:
        if self._running:
            ended, self._running = self._ray.wait(self._running, num_returns=len(self._running), timeout=seconds)
            for one in ended:
                try:
                    _result(self._ray, one)
                except UserError as error:
                    self._losses.append(str(error))
        return bool(self._running)

    @property
    def losses(self) -> list[str]:
        return self._losses

    def end(self) -> None:
        for one in self._running:
            self._ray.cancel(one, force=True)


def _map_on_cluster(
    function: Callable[[ItemT], ResultT], items: Sequence[ItemT], cluster: "Cluster"
) -> Iterator[ResultT]:
    with _session(cluster) as ray:
        task = _remote(ray, cluster)
        waiting = [task.remote(function, item, os.getcwd(), 1) for item in items]
        try:
            for one in waiting:
                yield _result(ray, one)
        finally:
            # Ray (2.60) ends this very process where a task is cancelled that is done or being retried
            unfinished = ray.wait(waiting, num_returns=len(waiting), timeout=0)[1] if waiting else []
            for one in unfinished:
                ray.cancel(one)


@contextmanager
def _session(cluster: "Cluster") -> Iterator[Any]:
    """Connect to a cluster and send it the code of this library, unless already connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError(
            "compute.backend: 'ray' needs the package 'ray', which is not installed: "
            "`make setup` in the checkout, or pip install '.[cluster]' there"
        ) from None
    if ray.is_initialized():
        yield ray
        return
    try:
        _knock(cluster.address)
        ray.init(
            address=cluster.address,
            runtime_env={"py_modules": [str(Path(__file__).resolve().parent.parent)]},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"compute.ray.address: no Ray cluster answers at '{cluster.address}' ({str(error).splitlines()[0][:160]}). "
            "`ray start --head` starts one; docs/scaling.md says more."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise an OSError if nothing listens at host:port; Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()


def _remote(ray: Any, cluster: "Cluster") -> Any:
    return ray.remote(_task).options(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=RETRIES)


def _result(ray: Any, task: Any) -> Any:
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        # Ray wraps the exception in its own traceback
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise UserError(
            f"the cluster has lost a task for good ({type(error).__name__}: {str(error).splitlines()[0][:200]})."
        ) from None


def _task(function: Callable[[ItemT], ResultT], item: ItemT, folder: str, threads: int | None) -> ResultT:
    """Process one item in a Ray worker, in the working folder of the command."""
    from threadpoolctl import threadpool_limits

    try:
        os.chdir(folder)
    except OSError:
        raise UserError(
            f"{folder}: node {platform.node()} does not have this folder. The workspace has to lie on a file system "
            "that every node sees under the same path: docs/scaling.md."
        ) from None
    if threads is None:
        # Ray sets OMP_NUM_THREADS to the number of cores of the task
        for name in THREADS:
            os.environ.setdefault(name, os.environ.get("OMP_NUM_THREADS", "1"))
    with threadpool_limits(limits=threads):
        return function(item)


def _member(function: Callable[[ItemT], None], item: ItemT) -> None:
    """Process one item in a process that dies with its parent."""
    from speech_emotion.core.process import die_with_parent

    die_with_parent()
    try:
        function(item)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)


def _start_worker() -> None:
    from speech_emotion.core.process import die_with_parent

    die_with_parent()


def _with_one_thread(function: Callable[[ItemT], ResultT], item: ItemT) -> ResultT:
    from threadpoolctl import threadpool_limits

    # not when the worker starts: a library that is loaded later would not be limited
    with threadpool_limits(limits=1):
        return function(item)


@contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """Start processes that ignore Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for processes started in this block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
