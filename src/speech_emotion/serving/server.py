"""Takes a model and settings; gives a server on a port, until it is told to stop.

It loads no model itself, and imports neither MLflow nor ONNX Runtime: workers do.
"""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from speech_emotion.errors import UserError
from speech_emotion.serving.app import App
from speech_emotion.serving.memory import give_back_at_once
from speech_emotion.serving.metrics import Log, Metrics
from speech_emotion.serving.pool import Pool
from speech_emotion.serving.scribe import Scribe
from speech_emotion.serving.source import Model, glance, may_change, model_of
from speech_emotion.settings.monitor import LogSettings
from speech_emotion.settings.serve import ServeSettings

CONNECTIONS: Final = 1000
"""Open at once; one more is told 503 by uvicorn."""

KEEP_SECONDS: Final = 15
"""That a connection may be idle between two requests."""

_HEADER_BYTES: Final = 16 * 2**10
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
        try:
            if self._scribe is not None:
                await self._scribe.start()
            model = await asyncio.to_thread(model_of, self._source)
            await self._change(model)
            await self._serve(began)
        finally:
            await self._pool.close()
            if self._scribe is not None:
                await self._scribe.close()

    async def _serve(self, began: float) -> None:
        config = uvicorn.Config(
            App(self._pool, self._settings, self._metrics, self._log, self._scribe),
            host=self._host,
            port=self._port,
            http=_protocol(self._settings.receive_seconds),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_SECONDS,
            timeout_graceful_shutdown=max(1, round(self._settings.stop_seconds)),
            limit_concurrency=CONNECTIONS,
            h11_max_incomplete_event_size=_HEADER_BYTES,
        )
        server = uvicorn.Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            # uvicorn sends itself, at its end, the signals that it has heard; by default they would kill
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        try:
            socket = config.bind_socket()
        except SystemExit:
            raise UserError(f"{self._host}:{self._port}: cannot be listened at; --port names another.") from None
        source = self._source
        watching = asyncio.create_task(self._watch(source)) if source is not None and may_change(source) else None
        address = "{}:{}".format(*socket.getsockname()[:2])
        self._log(
            "ready", url=f"http://{address}", seconds=round(time.perf_counter() - began, 3), **_named(self._pool.model)
        )
        try:
            await server.serve(sockets=[socket])
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
                    found = await asyncio.to_thread(model_of, source)
                    if found != self._pool.model:
                        await self._change(found)
                        self._log("the model changed", **_named(found))
            except UserError as error:
                pause = seldom
                self._log("no look for a new model", level="warning", reason=str(error))


def _named(model: Model) -> dict[str, str]:
    return {"model": model.name, "model_version": model.version, "package_digest": model.digest}


def _protocol(seconds: float) -> Any:
    """Return uvicorn's protocol with a limit on how long the head of a request may take to arrive."""

    class Protocol(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._forget()
            elif self._late is None and self.conn.trailing_data[0]:
                self._expect()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _expect(self) -> None:
            self._late = self.loop.call_later(seconds, self._close)

        def _forget(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _close(self) -> None:
            self._late = None
            if not self.transport.is_closing():
                self.transport.write(_LATE)
                self.transport.close()

    return Protocol


_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
