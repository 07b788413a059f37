"""Run requests in worker processes that can be killed, and replace the model without downtime."""

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from typing import Final, TypeVar

from pebble import CONSTS, ProcessExpired, ProcessFuture, ProcessPool

from speech_emotion.core.errors import UserError
from speech_emotion.registry.model_source import Model
from speech_emotion.serving.schemas import Reply

T = TypeVar("T")

START_SECONDS: Final = 120.0
"""Limit for loading a model."""

_GRACE_SECONDS: Final = 2.0
"""After which a task that pebble could neither start nor kill means that the pool itself is stuck."""

_NEWEST: Final = 0.1
"""Weight of the newest request in the mean duration."""

# workers ignore SIGTERM, so do not wait between it and SIGKILL
CONSTS.term_timeout = 0


class BusyError(Exception):
    """The queue is full, or no worker was free in time."""


class SlowError(Exception):
    """A request took too long and its worker was killed."""


class CrashError(Exception):
    """A request ended its worker."""


class Pool:
    """Worker processes with one model.

    Parameters
    ----------
    size : int
        Number of workers.
    waiting : int
        Number of requests that may wait for a worker.
    seconds : float
        Limit for a request, waiting included.
    recordings : int
        Largest number of recordings in a request.
    note : callable
        `note(event, **details)` logs an event.
    keep_log : bool
        Whether replies carry rows for the prediction log.
    """

    model: Model
    _pool: ProcessPool

    def __init__(
        self,
        *,
        size: int,
        waiting: int,
        seconds: float,
        recordings: int,
        note: Callable[..., None],
        keep_log: bool = False,
    ) -> None:
        self._size, self._waiting, self._seconds = size, waiting, seconds
        self._recordings, self._keep_log, self._note = recordings, keep_log, note
        self.requests = 0
        self.healthy = True
        self._mean_seconds = 0.0
        # pebble's timeout starts with the task: a task is only scheduled when a worker is free
        self._free = asyncio.Semaphore(size)
        self._changing = asyncio.Lock()
        self._ending: list[tuple[ProcessPool, threading.Thread]] = []

    @property
    def full(self) -> bool:
        """Whether no further request is accepted."""
        return self.requests >= self._size + self._waiting

    @property
    def retry_after(self) -> int:
        """Seconds, at least 1, in which the requests in progress should be done, judged by the latest ones."""
        return math.ceil(min(self._seconds, max(1.0, self._mean_seconds * self.requests / self._size)))

    async def change(self, model: Model) -> None:
        """Answer with a model from now on; requests in progress finish with the one before.

        Raises
        ------
        UserError
            The model cannot be loaded; the one before stays.
        """
        async with self._changing:
            await self._change(model)

    async def answer(self, body: bytes | bytearray) -> Reply:
        """Answer a request.

        Raises
        ------
        BusyError, SlowError, CrashError
        UserError
            The model cannot be loaded any more.
        """
        if self.full:
            raise BusyError
        end = time.monotonic() + self._seconds
        self.requests += 1
        try:
            try:
                await asyncio.wait_for(self._free.acquire(), self._seconds)
            except TimeoutError:
                raise BusyError from None
            try:
                return await self._run(body, end)
            finally:
                self._free.release()
        finally:
            self.requests -= 1

    async def close(self) -> None:
        """Kill all workers."""
        if hasattr(self, "_pool"):
            self._end(self._pool, now=True)
        for pool, thread in self._ending:
            pool.stop()
            await asyncio.to_thread(thread.join, 10)

    async def _run(self, body: bytes | bytearray, end: float) -> Reply:
        pool = self._pool
        try:
            return await self._run_in(pool, body, end)
        except (BrokenProcessPool, UserError):  # no task has begun: nothing is lost by another try
            self._note("worker ended", level="warning")
            await self._replace(pool)
            try:
                return await self._run_in(self._pool, body, end)
            except BrokenProcessPool:
                raise CrashError from None

    async def _run_in(self, pool: ProcessPool, body: bytes | bytearray, end: float) -> Reply:
        began = time.monotonic()
        seconds = max(0.001, end - began)
        try:
            async with asyncio.timeout(seconds + _GRACE_SECONDS) as limit:
                return await asyncio.wrap_future(_schedule(pool, _answer, body, timeout=seconds))
        except TimeoutError:
            self._note("worker timed out", level="warning")
            if limit.expired():
                await self._replace(pool)
            raise SlowError from None
        except ProcessExpired:
            self._note("worker ended", level="warning")
            raise CrashError from None
        finally:
            self._mean_seconds += _NEWEST * (time.monotonic() - began - self._mean_seconds)

    async def _replace(self, broken: ProcessPool) -> None:
        """Start another pool for one whose workers do not start or do not take tasks."""
        async with self._changing:
            if self._pool is not broken:  # another request has done it
                return
            try:
                await self._change(self.model, kill=True)
            except UserError as error:
                self.healthy = False
                self._note("workers do not start", level="error", reason=str(error))
                raise

    async def _change(self, model: Model, *, kill: bool = False) -> None:
        fresh = ProcessPool(
            self._size,
            initializer=_load,
            initargs=(model, self._recordings, self._keep_log),
            context=get_context("spawn"),
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                digest = await asyncio.wrap_future(_schedule(fresh, _digest))
        except BaseException as error:
            self._end(fresh, now=True)
            if isinstance(error, TimeoutError):
                raise UserError(f"the model was not loaded within {START_SECONDS:g} s") from None
            if isinstance(error, BrokenProcessPool):
                raise UserError("the process that loads the model ended; see its output above") from None
            raise
        if hasattr(self, "_pool"):
            self._end(self._pool, now=kill)
        self._pool, self.model, self.healthy = fresh, replace(model, digest=digest), True

    def _end(self, pool: ProcessPool, *, now: bool) -> None:
        """End a pool, after its tasks unless `now`, in a thread because pebble waits for it."""
        (pool.stop if now else pool.close)()
        thread = threading.Thread(target=pool.join, name="ending pool", daemon=True)
        thread.start()
        self._ending = [one for one in self._ending if one[1].is_alive()] + [(pool, thread)]


def _schedule(
    pool: ProcessPool, function: Callable[..., T], *arguments: object, timeout: float | None = None
) -> ProcessFuture[T]:
    try:
        return pool.schedule(function, args=arguments, timeout=timeout)
    except RuntimeError as error:  # how pebble refuses a task once the pool has failed
        raise BrokenProcessPool(str(error)) from None


# The functions that workers run: they import ONNX Runtime there, and not in the process that listens.


def _load(model: Model, most: int, keep_log: bool) -> None:
    from speech_emotion.serving import worker

    worker.load(model, most, keep_log)


def _digest() -> str:
    from speech_emotion.serving import worker

    return worker.get().digest


def _answer(body: bytes | bytearray) -> Reply:
    from speech_emotion.serving import worker

    return worker.get()(body)
