"""Gather asynchronous calls that wait for a worker, and run them together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass
class Batcher(Generic[ItemT, ResultT]):
    """Run items with at most `slots` calls of `run` at the same time.

    An item runs as soon as there is a free slot, together with the items that wait behind it as far as `fits` allows.

    * The items of a batch that fails with one of the exceptions `alone` are run again, each by itself, so that an item
      cannot fail others.
    * An item whose caller was cancelled while it waited is not run.
    """

    run: Callable[[list[ItemT]], Awaitable[Sequence[ResultT]]]
    slots: int
    fits: Callable[[list[ItemT]], bool]
    alone: tuple[type[Exception], ...]

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.slots)
        self._waiting: deque[tuple[ItemT, asyncio.Future[ResultT]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, item: ItemT) -> ResultT:
        """Return the result of an item, or raise what `run` raised."""
        result: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        self._start(self._next())
        return await result

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop itself holds only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def _next(self) -> None:
        async with self._free:
            batch: list[tuple[ItemT, asyncio.Future[ResultT]]] = []
            while self._waiting and (not batch or self.fits([item for item, _ in [*batch, self._waiting[0]]])):
                batch.append(self._waiting.popleft())
            await self._finish(batch)

    async def _by_itself(self, item: ItemT, result: asyncio.Future[ResultT]) -> None:
        async with self._free:
            await self._finish([(item, result)])

    async def _finish(self, batch: list[tuple[ItemT, asyncio.Future[ResultT]]]) -> None:
        batch = [(item, result) for item, result in batch if not result.done()]
        try:
            found = await self.run([item for item, _ in batch]) if batch else []
            for (_, result), one in zip(batch, found, strict=True):
                if not result.done():
                    result.set_result(one)
        except Exception as error:
            for item, result in batch:
                if len(batch) > 1 and isinstance(error, self.alone):
                    self._start(self._by_itself(item, result))
                elif not result.done():
                    result.set_exception(error)
