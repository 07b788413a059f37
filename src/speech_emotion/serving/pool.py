"""Takes a model; gives worker processes that answer requests, a bounded number at once, and change models unnoticed."""

import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from typing import Any, Final

from speech_emotion.core.errors import UserError
from speech_emotion.registry.model_source import Model
from speech_emotion.serving.wire import HEADER

START_SECONDS: Final = 120.0
"""That a worker may take to load a model."""

_TRIES: Final = 2
_PAUSE_SECONDS: Final = 1.0
_NEWEST: Final = 0.1
"""Share of the newest request in the mean of how long one takes."""


class BusyError(Exception):
    """As much work as is allowed is being done, or the work did not begin in time."""


class SlowError(Exception):
    """The work was begun and took too long."""


class CrashError(Exception):
    """The work ended its process, twice."""


@dataclass(frozen=True)
class Reply:
    """What a worker answered.

    Attributes
    ----------
    status : int
        Of HTTP.
    recordings : int
        That were answered.
    body : bytes
        JSON.
    model : Model
        Which answered.
    entries : bytes
        Rows of the log of predictions, a JSON list on one line; empty where none is kept.
    """

    status: int
    recordings: int
    body: bytes
    model: Model
    entries: bytes = b""


class Worker:
    """A process that has a model loaded; started at once, and ready when `ready` returns."""

    def __init__(self, model: Model, recordings: int, *, logged: bool = False) -> None:
        self.model = model
        self._pipe, theirs = Pipe()
        order = {
            "folder": None if model.folder is None else str(model.folder),
            "model": model.name,
            "version": model.version,
            "recordings": recordings,
            "logged": logged,
        }
        # -P: a module in the working folder must not take another's place
        command = [sys.executable, "-P", "-m", "speech_emotion.serving.worker", str(theirs.fileno()), json.dumps(order)]
        with theirs:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])

    def ready(self) -> dict[str, Any]:
        """Wait until the model is loaded and return what it says of itself.

        Raises
        ------
        UserError
            It cannot be loaded.
        """
        try:
            if not self._pipe.poll(START_SECONDS):
                raise UserError(f"the model was not loaded within {START_SECONDS:g} s")
            told: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            raise UserError("the process that was to load the model ended; what it said stands above") from None
        if "error" in told:
            raise UserError(told["error"])
        return told

    def ask(self, body: bytes | bytearray) -> Reply:
        """Answer a request, however long it takes; EOFError or OSError: the process has ended, or was stopped."""
        self._pipe.send_bytes(body)
        answer = self._pipe.recv_bytes()
        status, recordings, length = HEADER.unpack_from(answer)
        end = HEADER.size + length
        return Reply(status, recordings, answer[end:], self.model, answer[HEADER.size : end])

    def stop(self) -> None:
        """End it now, whatever it does: who waits in `ask` is told."""
        self._process.kill()

    def kill(self) -> None:
        """End it now, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()


@dataclass
class _Crew:
    """The workers of one model."""

    model: Model
    told: dict[str, Any]
    idle: asyncio.Queue[Worker] = field(default_factory=asyncio.Queue)
    requests: int = 0
    missing: int = 0
    retired: bool = False
    closed: bool = False


class Pool:
    """Worker processes behind one door.

    Parameters
    ----------
    size : int
        Workers.
    waiting : int
        Requests that may wait for one.
    seconds : float
        That a request may take, waiting included.
    recordings : int
        That a request may hold.
    note : callable
        Is told what happens (`note(event, **details)`).
    logged : bool
        Whether replies bring rows of a log of predictions.
    """

    def __init__(
        self,
        *,
        size: int,
        waiting: int,
        seconds: float,
        recordings: int,
        note: Callable[..., None],
        logged: bool = False,
    ) -> None:
        self.size, self.waiting, self.seconds, self.recordings = size, waiting, seconds, recordings
        self._logged = logged
        self.requests = 0
        self._work_seconds = 0.0
        self._note = note
        # a thread a worker, in two crews while a model changes, and one for what is mended
        self._threads = ThreadPoolExecutor(2 * size + 2, thread_name_prefix="worker")
        self._crew: _Crew | None = None
        self._workers: set[Worker] = set()
        self._tasks: set[asyncio.Future[Any]] = set()

    @property
    def model(self) -> Model:
        """The model that answers."""
        assert self._crew is not None
        return self._crew.model

    @property
    def labels(self) -> Sequence[str]:
        """Its labels."""
        assert self._crew is not None
        return list(self._crew.told["labels"])

    @property
    def full(self) -> bool:
        """Whether no further request is taken."""
        return self.requests >= self.size + self.waiting

    @property
    def able(self) -> bool:
        """Whether there is a worker, or one is on its way; false where none starts any more."""
        return self._crew is not None and self._crew.missing < self.size

    @property
    def patience(self) -> int:
        """Seconds after which what is in work now should be done, judged by the last requests; 1 at least."""
        return math.ceil(min(self.seconds, max(1.0, self._work_seconds * self.requests / self.size)))

    async def change(self, model: Model) -> None:
        """Have a model answer from now on; what was begun with another is finished with it.

        Raises
        ------
        UserError
            It cannot be loaded; then nothing has changed.
        """
        workers: list[Worker] = []
        try:
            workers.extend(self._start(model) for _ in range(self.size))
            told = await asyncio.gather(*(self._threaded(worker.ready) for worker in workers))
        except BaseException:
            for worker in workers:
                self._end(worker)
            raise
        before = self._crew
        # a folder does not say its digest, its workers do
        known = model if model.digest else Model(model.folder, model.name, model.version, str(told[0]["digest"]))
        self._crew = _Crew(known, told[0])
        for worker in workers:
            worker.model = known
            self._crew.idle.put_nowait(worker)
        if before is not None:
            before.retired = True
            self._close_if_done(before)

    async def answer(self, body: bytes | bytearray) -> Reply:
        """Answer a request.

        Raises
        ------
        BusyError, SlowError, CrashError
        """
        if self.full:
            raise BusyError
        crew, end = self._crew, time.monotonic() + self.seconds
        assert crew is not None
        crew.requests += 1
        self.requests += 1
        try:
            for _ in range(_TRIES):
                try:
                    async with asyncio.timeout_at(asyncio.get_running_loop().time() + end - time.monotonic()):
                        worker = await crew.idle.get()
                except TimeoutError:
                    raise BusyError from None
                # shielded: who gives up must not leave a worker that nobody waits for
                with suppress(EOFError, OSError):
                    return await asyncio.shield(self._task(self._ask(crew, worker, body, end)))
            raise CrashError
        finally:
            crew.requests -= 1
            self.requests -= 1
            self._close_if_done(crew)

    async def close(self) -> None:
        """End all workers, whatever they do."""
        if self._crew is not None:
            self._crew.closed = True
        for worker in list(self._workers):
            self._end(worker)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown()

    def _start(self, model: Model) -> Worker:
        worker = Worker(model, self.recordings, logged=self._logged)
        self._workers.add(worker)
        return worker

    def _end(self, worker: Worker) -> None:
        self._workers.discard(worker)
        self._task(self._threaded(worker.kill))

    async def _ask(self, crew: _Crew, worker: Worker, body: bytes | bytearray, end: float) -> Reply:
        late, began = False, time.monotonic()

        def stop() -> None:
            nonlocal late
            late = True
            worker.stop()

        # one that hangs may not even take the request in: only its end is sure to free the thread that talks to it
        timer = asyncio.get_running_loop().call_later(max(0.0, end - began), stop)
        try:
            reply: Reply = await self._threaded(worker.ask, body)
        except (EOFError, OSError):
            self._note("a worker took too long" if late else "a worker ended", level="warning")
            self._task(self._replace(crew, worker))
            if late:
                raise SlowError from None
            raise
        finally:
            timer.cancel()
            self._work_seconds += _NEWEST * (time.monotonic() - began - self._work_seconds)
        if late:  # it was ended just as it had answered
            self._task(self._replace(crew, worker))
        else:
            self._give(crew, worker)
        return reply

    def _give(self, crew: _Crew, worker: Worker) -> None:
        if crew.closed:
            self._end(worker)
        else:
            crew.idle.put_nowait(worker)

    async def _replace(self, crew: _Crew, worker: Worker) -> None:
        self._end(worker)
        failed = False
        while not crew.closed:
            fresh = None
            try:
                fresh = self._start(crew.model)
                await self._threaded(fresh.ready)
            except (UserError, OSError) as error:
                self._note("a worker does not start", level="error", reason=str(error))
                if fresh is not None:
                    self._end(fresh)
                crew.missing += not failed
                failed = True
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                crew.missing -= failed
                self._give(crew, fresh)
                return

    def _close_if_done(self, crew: _Crew) -> None:
        if crew.retired and not crew.closed and not crew.requests:
            crew.closed = True
            while not crew.idle.empty():
                self._end(crew.idle.get_nowait())

    def _threaded(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _task(self, work: Any) -> "asyncio.Future[Any]":
        task: asyncio.Future[Any] = asyncio.ensure_future(work)
        # the loop itself holds a task only weakly
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
