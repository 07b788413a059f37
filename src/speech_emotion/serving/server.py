"""Start the server, whose workers load the model; follow the champion, and stop gracefully."""

import asyncio
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import uvicorn

from speech_emotion.config.monitoring import LogSettings
from speech_emotion.config.serving import ServeSettings
from speech_emotion.core.parallel import core_count
from speech_emotion.monitoring.log_writer import LogWriter
from speech_emotion.registry.model_resolution import glance, may_change, resolve_apart
from speech_emotion.serving.app import Api
from speech_emotion.serving.limits import HEAD_BYTES
from speech_emotion.serving.metrics import Metrics, log
from speech_emotion.serving.pool import Pool
from speech_emotion.serving.protocol import bound, protocol, url

_OPEN_FILES: Final = 4096
"""Enough for all connections; many systems allow 1,024 by default."""

_SLOW_POLL_SECONDS: Final = 60.0
"""Between polls of a registry that fails."""


def serve(
    source: str | None, settings: ServeSettings, *, host: str, port: int, log: tuple[Path, LogSettings] | None = None
) -> None:
    """Serve a model until SIGTERM or SIGINT, then finish the requests in progress.

    `source` is a package folder or a registry URI (None: the built-in package), and `log` the folder and settings of
    the prediction log. Raises UserError if there is no such model, the port is taken, or the log cannot be written.
    """
    # workers must not import modules of the working folder; glibc gives back blocks of 1 MiB or more, and keeps smaller
    os.environ.update(PYTHONSAFEPATH="1", MALLOC_MMAP_THRESHOLD_=str(2**20), MALLOC_TRIM_THRESHOLD_=str(2**26))
    os.environ.update(MALLOC_TOP_PAD_=str(2**24))
    raise_file_limit()
    asyncio.run(_Server(source, settings, log).run(host, port))


class _Server:
    def __init__(self, source: str | None, settings: ServeSettings, log: tuple[Path, LogSettings] | None) -> None:
        self._source, self._settings = source, settings
        self._metrics = Metrics(lambda: self._pool.requests)
        self._log_writer = None if log is None else LogWriter(*log, note=self._metrics.note)
        workers = settings.processes or core_count()
        self._pool = Pool(workers, settings, note=self._metrics.note, keep_log=log is not None)

    async def run(self, host: str, port: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        _on_stop(task.cancel)
        try:
            with suppress(asyncio.CancelledError):  # stopped before it had started
                await self._start()
                await self._serve(host, port)
        finally:
            await self._pool.close()
            if self._log_writer is not None:
                await self._log_writer.close()
        log("stopped")

    async def _start(self) -> None:
        if self._log_writer is not None:
            await self._log_writer.start()
        await self._pool.change(await resolve_apart(self._source))

    async def _serve(self, host: str, port: int) -> None:
        config = uvicorn.Config(
            Api(self._pool, self._settings, self._metrics, self._log_writer).asgi,
            host=host,
            port=port,
            http=protocol(self._settings.receive_seconds, self._metrics.note),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(self._settings.stop_seconds)),
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
        server = uvicorn.Server(config)
        _on_stop(lambda: setattr(server, "should_exit", True))
        listener = bound(config)
        polling = asyncio.create_task(self._poll())
        self._metrics.note("ready", url=url(listener), **self._pool.model.versions)
        try:
            await server.serve(sockets=[listener])
        finally:
            polling.cancel()

    async def _poll(self) -> None:
        """Switch to a new champion when its workers have loaded it."""
        source, pause = self._source, self._settings.poll_seconds
        while source is not None and may_change(source):
            await asyncio.sleep(pause)
            pause = max(self._settings.poll_seconds, _SLOW_POLL_SECONDS)
            try:
                seen = await asyncio.to_thread(glance, source)
                if seen != self._pool.model and (found := await resolve_apart(source)) != self._pool.model:
                    await self._pool.change(found)
                    self._metrics.note("model changed", **found.versions)
                pause = self._settings.poll_seconds
            except Exception as error:  # the next poll may succeed
                self._metrics.note("champion not polled", level="warning", reason=str(error) or repr(error))


def _on_stop(stop: Callable[[], object]) -> None:
    """Call `stop` on SIGTERM and SIGINT; without a handler, process 1 of a container ignores them."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # not loop.add_signal_handler: at its end uvicorn raises the signals that it has received once more
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def raise_file_limit() -> None:
    """Set the limit of open files to what the connections need, as far as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
