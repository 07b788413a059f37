"""Start the server, follow the champion, and stop gracefully.

This process loads no model and imports neither MLflow nor ONNX Runtime: workers do.
"""

import asyncio
import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import uvicorn

from speech_emotion.config.monitoring import LogSettings
from speech_emotion.config.serving import ServeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.registry.model_source import Model, glance, may_change, model_of
from speech_emotion.serving import ports
from speech_emotion.serving.app import Api
from speech_emotion.serving.limits import HEAD_BYTES
from speech_emotion.serving.log_writer import LogWriter
from speech_emotion.serving.metrics import Log, Metrics
from speech_emotion.serving.pool import Pool
from speech_emotion.serving.protocol import CONNECTIONS, protocol

_KEEP_ALIVE_SECONDS: Final = 15
_OPEN_FILES: Final = 4096
"""Enough for all connections; many systems allow 1,024 by default."""

_SLOW_POLL_SECONDS: Final = 60.0
"""Between polls of a registry that is slow to read, or that failed."""


def serve(
    source: str | None,
    settings: ServeSettings,
    *,
    host: str,
    port: int,
    cores: int,
    log: tuple[Path, LogSettings] | None = None,
) -> None:
    """Serve a model until SIGTERM or SIGINT, then finish the requests in progress.

    Parameters
    ----------
    source : str or None
        A package folder or a registry URI; None: the built-in package.
    settings : ServeSettings
    host, port : str, int
        Address to listen on; port 0: any free port, which the log names.
    cores : int
        Number of workers if the settings leave it open.
    log : tuple of Path and LogSettings, optional
        Folder and settings of the prediction log.

    Raises
    ------
    UserError
        There is no such model, the port is taken, or the log cannot be written.
    """
    # workers must not import modules of the working folder
    os.environ["PYTHONSAFEPATH"] = "1"
    _raise_file_limit()
    asyncio.run(_Server(source, settings, settings.processes or cores, log).run(host, port))


class _Server:
    def __init__(
        self, source: str | None, settings: ServeSettings, workers: int, log: tuple[Path, LogSettings] | None
    ) -> None:
        self._source, self._settings = source, settings
        self._metrics = Metrics(lambda: self._pool.requests)
        self._log = Log(lambda event: self._metrics.events.labels(event).inc())
        self._log_writer = None if log is None else LogWriter(*log, note=self._log)
        self._pool = Pool(
            size=workers,
            waiting=settings.waiting,
            seconds=settings.answer_seconds,
            recordings=settings.recordings,
            note=self._log,
            keep_log=log is not None,
        )

    async def run(self, host: str, port: int) -> None:
        began = time.perf_counter()
        starting = asyncio.ensure_future(self._start())
        _on_stop(starting.cancel)
        try:
            await starting
            await self._serve(host, port, began)
        except asyncio.CancelledError:
            if not starting.cancelled():
                raise
        finally:
            await self._pool.close()
            if self._log_writer is not None:
                await self._log_writer.close()
        self._log("stopped")

    async def _start(self) -> None:
        if self._log_writer is not None:
            await self._log_writer.start()
        await self._change(await model_of(self._source))

    async def _serve(self, host: str, port: int, began: float) -> None:
        api = Api(
            self._pool,
            self._settings,
            self._metrics,
            self._log,
            crowded=lambda: len(server.server_state.connections) > CONNECTIONS,
            log_writer=self._log_writer,
        )
        config = uvicorn.Config(
            api.asgi,
            host=host,
            port=port,
            http=protocol(self._settings.receive_seconds, self._log),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(self._settings.stop_seconds)),
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
        server = uvicorn.Server(config)
        _on_stop(lambda: setattr(server, "should_exit", True))
        listener = ports.bound(config)
        try:
            # a client may connect as soon as the log says that the server is ready
            listener.listen(config.backlog)
        except OSError:
            raise ports.refusal(host, port) from None
        source = self._source
        polling = asyncio.create_task(self._poll(source)) if source is not None and may_change(source) else None
        seconds = round(time.perf_counter() - began, 3)
        self._log("ready", url=ports.url(listener), seconds=seconds, **_names(self._pool.model))
        try:
            await server.serve(sockets=[listener])
        finally:
            if polling is not None:
                polling.cancel()

    async def _change(self, model: Model) -> None:
        await self._pool.change(model)
        self._metrics.model(self._pool.model)

    async def _poll(self, source: str) -> None:
        """Switch to a new champion when its workers have loaded it."""
        often, seldom = self._settings.poll_seconds, max(self._settings.poll_seconds, _SLOW_POLL_SECONDS)
        pause = often
        while True:
            await asyncio.sleep(pause)
            try:
                seen = await asyncio.to_thread(glance, source)
                pause = seldom if seen is None else often
                if seen != self._pool.model and (found := await model_of(source)) != self._pool.model:
                    await self._change(found)
                    self._log("model changed", **_names(found))
            except UserError as error:
                pause = seldom
                self._log("champion not polled", level="warning", reason=str(error))
            except Exception as error:  # the next poll may succeed
                pause = seldom
                self._log("error", level="error", reason=f"{type(error).__name__}: {error}")


def _names(model: Model) -> dict[str, str]:
    return {"model": model.name, "model_version": model.version, "package_digest": model.digest}


def _on_stop(stop: Callable[[], object]) -> None:
    """Call `stop` on SIGTERM and SIGINT; without a handler, process 1 of a container ignores them."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # not loop.add_signal_handler: at its end uvicorn raises the signals that it has received once more
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
