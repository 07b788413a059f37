"""Takes a model and settings; gives a server on a port, until it is told to stop.

It loads no model itself, and imports neither MLflow nor ONNX Runtime: workers do.
"""

import asyncio
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
from speech_emotion.serving.app import App
from speech_emotion.serving.log_writer import Scribe
from speech_emotion.serving.memory import give_back_at_once
from speech_emotion.serving.metrics import Log, Metrics
from speech_emotion.serving.pool import Pool
from speech_emotion.serving.protocol import CONNECTIONS, protocol

KEEP_SECONDS: Final = 15
"""That a connection may be idle between two requests."""

_HEADER_BYTES: Final = 16 * 2**10
_FILES: Final = 4096
"""That may be open, connections among them; many systems begin with 1024."""

_SLOW_LOOK_SECONDS: Final = 60.0
"""Between two looks for which MLflow itself had to be started."""


def serve(
    source: str | None,
    settings: ServeSettings,
    *,
    host: str,
    port: int,
    cores: int,
    log: tuple[Path, LogSettings] | None = None,
) -> None:
    """Serve a model until SIGTERM or SIGINT; what was begun then is finished.

    Parameters
    ----------
    source : str or None
        A package's folder, or a URI of the registry; None: the package that comes with the software.
    settings : ServeSettings
    host : str
        The address to listen at.
    port : int
        0: any that is free; the log says which.
    cores : int
        Workers, where the settings leave it open.
    log : tuple of Path and LogSettings, optional
        The folder in which a log of predictions is kept, and how its files are cut; None: there is none.

    Raises
    ------
    UserError
        There is no such model, the port is taken, or the log cannot be written.
    """
    give_back_at_once()
    _allow_files()
    asyncio.run(_Server(source, settings, host, port, settings.processes or cores, log).run())


class _Server:
    def __init__(
        self,
        source: str | None,
        settings: ServeSettings,
        host: str,
        port: int,
        workers: int,
        log: tuple[Path, LogSettings] | None,
    ) -> None:
        self._source, self._settings, self._host, self._port = source, settings, host, port
        self._metrics = Metrics(lambda: self._pool.requests)
        self._log = Log(lambda event: self._metrics.events.labels(event).inc())
        self._pool = Pool(
            size=workers,
            waiting=settings.waiting,
            seconds=settings.answer_seconds,
            recordings=settings.recordings,
            note=self._log,
            logged=log is not None,
        )
        self._scribe = None if log is None else Scribe(*log, note=self._log)

    async def run(self) -> None:
        began = time.perf_counter()
        starting = asyncio.ensure_future(self._start())
        _on_stop(starting.cancel)
        try:
            await starting
            await self._serve(began)
        except asyncio.CancelledError:
            if not starting.cancelled():
                raise
            self._log("stopped")
        finally:
            await self._pool.close()
            if self._scribe is not None:
                await self._scribe.close()

    async def _start(self) -> None:
        if self._scribe is not None:
            await self._scribe.start()
        await self._change(await model_of(self._source))

    async def _serve(self, began: float) -> None:
        def crowded() -> bool:
            return len(server.server_state.connections) > CONNECTIONS

        config = uvicorn.Config(
            App(self._pool, self._settings, self._metrics, self._log, crowded=crowded, scribe=self._scribe),
            host=self._host,
            port=self._port,
            http=protocol(self._settings.receive_seconds, self._log),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_SECONDS,
            timeout_graceful_shutdown=max(1, round(self._settings.stop_seconds)),
            h11_max_incomplete_event_size=_HEADER_BYTES,
        )
        server = uvicorn.Server(config)
        _on_stop(lambda: setattr(server, "should_exit", True))
        listener = ports.bound(config)
        try:
            # whoever reads that it is ready may come at once
            listener.listen(config.backlog)
        except OSError:
            raise ports.refusal(self._host, self._port) from None
        source = self._source
        watching = asyncio.create_task(self._watch(source)) if source is not None and may_change(source) else None
        self._log(
            "ready", url=ports.url(listener), seconds=round(time.perf_counter() - began, 3), **_named(self._pool.model)
        )
        try:
            await server.serve(sockets=[listener])
        finally:
            if watching is not None:
                watching.cancel()
            self._log("stopped")

    async def _change(self, model: Model) -> None:
        await self._pool.change(model)
        self._metrics.model(self._pool.model)

    async def _watch(self, source: str) -> None:
        """Look for a new champion, and let it answer as soon as its workers have it loaded."""
        often, seldom = self._settings.poll_seconds, max(self._settings.poll_seconds, _SLOW_LOOK_SECONDS)
        pause = often
        while True:
            await asyncio.sleep(pause)
            try:
                seen = await asyncio.to_thread(glance, source)
                pause = seldom if seen is None else often
                if seen != self._pool.model:
                    found = await model_of(source)
                    if found != self._pool.model:
                        await self._change(found)
                        self._log("the model changed", **_named(found))
            except UserError as error:
                pause = seldom
                self._log("no look for a new model", level="warning", reason=str(error))
            except Exception as error:  # a mistake of ours, or of the system: the next look may do better
                pause = seldom
                self._log("error", level="error", reason=f"{type(error).__name__}: {error}")


def _named(model: Model) -> dict[str, str]:
    return {"model": model.name, "model_version": model.version, "package_digest": model.digest}


def _on_stop(stop: Callable[[], object]) -> None:
    """Have SIGTERM and SIGINT call what stops; process 1 of a container would not hear them otherwise."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn sends itself, at its end, the signals that it has heard; by default they would kill
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def _allow_files() -> None:
    """Allow this process the files that all connections need, as far as the system lets it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
