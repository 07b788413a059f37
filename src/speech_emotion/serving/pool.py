"""Run requests in worker processes that can be killed, and replace the model without downtime."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from typing import Final

from pebble import CONSTS, ProcessExpired, ProcessPool
from starlette.exceptions import HTTPException

from speech_emotion.config.serving import ServeSettings
from speech_emotion.core.batching import Batcher
from speech_emotion.core.errors import UserError
from speech_emotion.registry.model_resolution import Model
from speech_emotion.serving import worker
from speech_emotion.serving.schemas import Reply

START_SECONDS: Final = 120.0
"""Limit for loading a model."""

_STOP_SECONDS: Final = 10.0

_GRACE_SECONDS: Final = 2.0
"""After which a task that pebble could neither start nor kill means that the pool itself is stuck."""

# workers ignore SIGTERM, so do not wait between it and SIGKILL
CONSTS.term_timeout = 0


class Pool:
    """Worker processes with one model; `note(event, **details)` logs an event."""

    model: Model

    def __init__(self, size: int, settings: ServeSettings, *, note: Callable[..., None], keep_log: bool) -> None:
        self._size, self._settings, self._note, self._keep_log = size, settings, note, keep_log
        self.requests, self.healthy = 0, True
        # pebble has no bound for its queue: a task is only scheduled when a worker is free
        self._batcher = Batcher(
            self._answer,
            slots=size,
            # handing over eight small requests takes about as long as handing over one
            fits=lambda bodies: len(bodies) <= 8 and sum(map(len, bodies)) <= 2**20,
            alone=(ProcessExpired, TimeoutError),
        )
        self._changing = asyncio.Lock()
        self._pool: ProcessPool | None = None
        self._ending: dict[asyncio.Task[None], ProcessPool] = {}

    async def change(self, model: Model, *, broken: ProcessPool | None = None) -> None:
        """Answer with a model from now on; raises UserError if it cannot be loaded.

        Requests in progress finish with the model before, unless its workers are `broken`: those are killed, once.
        """
        async with self._changing:
            if broken not in (None, self._pool):
                return
            self._end(broken, kill=True)
            fresh, digest = await self._started(model)
            self._end(None if broken else self._pool, kill=False)
            self._pool, self.model, self.healthy = fresh, replace(model, digest=digest), True

    async def answer(self, body: bytes) -> Reply:
        """Answer a request; raises 400, 503 or 504 as HTTPException."""
        if self.requests >= self._size + self._settings.waiting:
            raise unavailable("server busy, retry later")
        limit = self._settings.answer_seconds
        self.requests += 1
        try:
            reply = await asyncio.wait_for(self._batcher(body), limit)
            self.healthy = True
            return reply
        except TimeoutError:
            raise HTTPException(504, f"the request took longer than {limit:g} s; send fewer recordings") from None
        except ProcessExpired:
            self._note("worker ended", level="warning")
            raise HTTPException(400, "the recordings cannot be decoded: they are damaged") from None
        except (RuntimeError, UserError) as error:  # pebble raises RuntimeError once its workers cannot start
            self.healthy = False
            self._note("workers do not start", level="error", reason=str(error))
            raise unavailable("the model cannot be loaded; see the log") from None
        finally:
            self.requests -= 1

    async def close(self) -> None:
        """Kill all workers."""
        self._end(self._pool, kill=True)
        for pool in self._ending.values():
            pool.stop()
        if self._ending:
            await asyncio.wait(self._ending, timeout=_STOP_SECONDS)

    async def _answer(self, bodies: list[bytes]) -> list[Reply]:
        pool = self._pool
        try:
            return await self._run(bodies)
        except (RuntimeError, UserError):  # no task has begun: nothing is lost by another try
            self._note("worker ended", level="warning")
            await self.change(self.model, broken=pool)
            return await self._run(bodies)

    async def _run(self, bodies: list[bytes]) -> list[Reply]:
        # if one of several requests hangs, enough time is left to run the others by themselves
        pool, seconds = self._pool, self._settings.answer_seconds / min(len(bodies), 3)
        assert pool is not None  # `change` comes first
        try:
            async with asyncio.timeout(seconds + _GRACE_SECONDS) as limit:
                # at its timeout pebble kills the worker
                return await asyncio.wrap_future(pool.schedule(worker.answer, [bodies], timeout=seconds))
        except TimeoutError:
            self._note("worker timed out", level="warning")
            if limit.expired():
                await self.change(self.model, broken=pool)
            raise

    async def _started(self, model: Model) -> tuple[ProcessPool, str]:
        """Return new workers that have loaded a model, and its digest."""
        initargs = (model, self._settings.recordings, self._keep_log)
        pool = ProcessPool(self._size, initializer=worker.load, initargs=initargs, context=get_context("spawn"))
        try:
            async with asyncio.timeout(START_SECONDS):
                return pool, await asyncio.wrap_future(pool.schedule(worker.digest))
        except BaseException as error:
            self._end(pool, kill=True)
            if isinstance(error, (TimeoutError, RuntimeError)):
                raise UserError("the processes that load the model ended or hang; see their output above") from None
            raise

    def _end(self, pool: ProcessPool | None, *, kill: bool) -> None:
        """End workers, after their tasks unless `kill`; pebble waits for them, so a thread does that."""
        if pool is not None:
            (pool.stop if kill else pool.close)()
            task = asyncio.create_task(asyncio.to_thread(pool.join))
            self._ending[task] = pool
            task.add_done_callback(self._ending.pop)


def unavailable(message: str) -> HTTPException:
    """Return the refusal of a request that may succeed later."""
    return HTTPException(503, message, {"Retry-After": "1"})
