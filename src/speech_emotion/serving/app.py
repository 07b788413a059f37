"""Define the HTTP interface: MLflow's scoring protocol, health, metrics and the API description."""

import asyncio
import re
import time
from importlib import metadata
from typing import Any, Final

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from speech_emotion.config.serving import ServeSettings
from speech_emotion.monitoring.log_writer import LogWriter
from speech_emotion.serving import schemas
from speech_emotion.serving.limits import Exchange, limited
from speech_emotion.serving.metrics import Metrics, log
from speech_emotion.serving.pool import Pool, unavailable

_JSON: Final = re.compile(r'application/json\s*(;\s*charset="?utf-8"?\s*)?', re.IGNORECASE)
_CODES: Final = {
    404: "ENDPOINT_NOT_FOUND",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_LARGEST_BODIES: Final = 4
"""Bodies of the largest size held at once; many small ones count the same."""

_SCHEMA: Final = schemas.Request.model_json_schema(
    ref_template="#/paths/~1invocations/post/requestBody/content/application~1json/schema/$defs/{model}"
)


class Api:
    """The endpoints; `asgi` is the application with limits, a log line and metrics for each request."""

    def __init__(self, pool: Pool, settings: ServeSettings, metrics: Metrics, log_writer: LogWriter | None) -> None:
        self._pool, self._settings, self._metrics, self._log_writer = pool, settings, metrics, log_writer
        self._largest = int(settings.body_mb * 2**20)
        self._held = 0
        self.asgi = self._application()

    def _application(self) -> ASGIApp:
        # FastAPI's pages of documentation load scripts from another host
        app = FastAPI(title="speech-emotion", version=metadata.version("speech-emotion"), docs_url=None, redoc_url=None)
        app.get("/ping", response_class=Response)(self.ping)
        app.get("/health", response_class=Response)(self.ping)
        app.get("/version", response_class=PlainTextResponse)(self.version)
        app.get("/metrics", response_class=PlainTextResponse)(self.metrics)
        app.post(
            "/invocations",
            description=f"Predict the emotion of at most {self._settings.recordings} recordings, all of them or none.",
            responses={
                200: {"content": {"application/json": {"example": schemas.EXAMPLE}}},
                **{status: {"model": schemas.Refusal} for status in (400, 408, 413, 415, 503, 504)},
            },
            openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}},
        )(self.invocations)
        app.add_exception_handler(HTTPException, _refuse)
        app.add_exception_handler(Exception, _refuse)
        app.add_exception_handler(ClientDisconnect, lambda *_: Response(status_code=499))
        return limited(app, report=self._report)

    async def invocations(self, request: Request) -> Response:
        """Predict the emotion of recordings."""
        if not _JSON.fullmatch(", ".join(request.headers.getlist("content-type"))):
            raise HTTPException(415, "expected Content-Type: application/json, in UTF-8")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(415, "the body is compressed; send it uncompressed")
        body = bytearray()
        try:
            await self._read(request, body)
            reply = await self._pool.answer(bytes(body))
        finally:
            self._held -= len(body)
        if reply.error:
            self._metrics.note("recording not decoded", level="warning", reason=reply.error)
        request.scope["recordings"] = reply.recordings
        self._metrics.recordings.inc(reply.recordings)
        if self._log_writer is not None and reply.log_rows:
            self._log_writer.write(reply.log_rows)
        return Response(reply.body, reply.status, media_type="application/json")

    async def ping(self) -> Response:
        """Return 200 while the model can answer."""
        if not self._pool.healthy:
            raise unavailable("the model cannot be loaded; see the log")
        return Response(b"\n", media_type="application/json")

    async def version(self, request: Request) -> str:
        """Return the version of this software."""
        return str(request.app.version)

    async def metrics(self) -> Response:
        """Return metrics in Prometheus format."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _read(self, request: Request, body: bytearray) -> None:
        limit = self._settings.receive_seconds
        try:
            async with asyncio.timeout(limit):
                async for part in request.stream():
                    if len(body) + len(part) > self._largest:
                        raise HTTPException(413, f"the request is larger than {self._settings.body_mb:g} MiB")
                    if self._held + len(part) > _LARGEST_BODIES * self._largest:
                        raise unavailable("server busy, retry later")
                    body += part
                    self._held += len(part)
        except TimeoutError:
            raise HTTPException(408, f"the request did not arrive within {limit:g} s") from None

    def _report(self, exchange: Exchange, error: Exception | None) -> None:
        # one label per unknown path would fill Prometheus
        path = exchange.scope["route"].path if "route" in exchange.scope else "other"
        seconds = time.perf_counter() - exchange.began
        self._metrics.requests.labels(path, str(exchange.status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        if error is not None:
            self._metrics.note("error", level="error", id=exchange.id, reason=f"{type(error).__name__}: {error}")
        log(
            "request",
            id=exchange.id,
            method=exchange.scope["method"],
            path=path,
            status=exchange.status,
            seconds=round(seconds, 4),
            recordings=exchange.scope.get("recordings", 0),
            model_version=self._pool.model.version or self._pool.model.digest[:12],
        )


async def _refuse(request: Request, error: Any) -> Response:
    if not isinstance(error, HTTPException):
        error = HTTPException(500, "internal error; see the server's log")
    known = {404: "not found; see /openapi.json", 405: f"this path accepts {(error.headers or {}).get('Allow')}"}
    code = _CODES.get(error.status_code, "INVALID_PARAMETER_VALUE")
    body = schemas.refusal(known.get(error.status_code, error.detail), code)
    return Response(body, error.status_code, error.headers, "application/json")
