"""Define the HTTP interface: MLflow's scoring protocol, health, metrics and the API description."""

import asyncio
import html
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any, Final, NoReturn

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from speech_emotion.config.serving import ServeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.serving import schemas
from speech_emotion.serving.limits import Exchange, Limits
from speech_emotion.serving.log_writer import LogWriter
from speech_emotion.serving.metrics import Log, Metrics
from speech_emotion.serving.pool import BusyError, CrashError, Pool, SlowError

_JSON: Final = "application/json"
_CODES: Final = {
    404: "ENDPOINT_NOT_FOUND",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_LARGEST_BODIES: Final = 4
"""Bodies of the largest size held at once; many small ones count the same."""


class Api:
    """The endpoints.

    Parameters
    ----------
    pool : Pool
    settings : ServeSettings
    metrics : Metrics
    log : Log
    crowded : callable
        Whether too many connections are open to accept recordings.
    log_writer : LogWriter, optional
        Writes the prediction log.
    """

    def __init__(
        self,
        pool: Pool,
        settings: ServeSettings,
        metrics: Metrics,
        log: Log,
        *,
        crowded: Callable[[], bool],
        log_writer: LogWriter | None = None,
    ) -> None:
        self._pool, self._settings, self._metrics, self._log = pool, settings, metrics, log
        self._crowded, self._log_writer = crowded, log_writer
        self._largest = int(settings.body_mb * 2**20)
        self._held = 0
        self._version = metadata.version("speech-emotion")
        # FastAPI's own page of the documentation loads scripts from another host
        self._app = FastAPI(title="speech-emotion", version=self._version, docs_url=None, redoc_url=None)
        self._add_routes()
        self._app.add_exception_handler(HTTPException, _refuse)
        self._app.add_exception_handler(ClientDisconnect, lambda *_: Response(status_code=499))
        self._app.add_exception_handler(Exception, _fail)
        self.paths = {*self._app.openapi()["paths"], "/openapi.json"}
        self.asgi = Limits(self._app, observe=self._observe, failed=self._failed)

    def _add_routes(self) -> None:
        for path, endpoint, kind in (
            ("/ping", self.ping, Response),
            ("/health", self.ping, Response),
            ("/version", self.version, PlainTextResponse),
            ("/metrics", self.metrics, PlainTextResponse),
            ("/docs", self.docs, HTMLResponse),
        ):
            self._app.add_api_route(path, endpoint, methods=["GET"], response_class=kind)
        template = "#/paths/~1invocations/post/requestBody/content/application~1json/schema/$defs/{model}"
        body = {"required": True, "content": {_JSON: {"schema": schemas.request_schema(template)}}}
        refusals = {
            400: "The request or a recording is unusable; the message says which and why.",
            408: f"The request did not arrive within {self._settings.receive_seconds:g} s.",
            413: f"The request is larger than {self._settings.body_mb:g} MiB.",
            415: "The Content-Type is not application/json.",
            503: "The server is busy; Retry-After says when to retry.",
            504: f"The request took longer than {self._settings.answer_seconds:g} s.",
        }
        self._app.add_api_route(
            "/invocations",
            self.invocations,
            methods=["POST"],
            description=f"Predict the emotion of 1 to {self._settings.recordings} recordings; all of them or none.",
            response_model=schemas.Predictions,
            responses={status: {"description": text, "model": schemas.Refusal} for status, text in refusals.items()},
            openapi_extra={"requestBody": body},
        )

    async def invocations(self, request: Request) -> Response:
        """Predict the emotion of recordings."""
        _check_type(request)
        if int(request.headers.get("content-length", "0")) > self._largest:
            self._refuse_size()
        if self._pool.full or self._crowded():
            self._refuse_busy()
        body = bytearray()
        try:
            await self._read(request, body)
            reply = await self._pool.answer(body)
        except BusyError:
            self._refuse_busy()
        except SlowError:
            limit = self._settings.answer_seconds
            raise HTTPException(504, f"the request took longer than {limit:g} s; send fewer recordings") from None
        except CrashError:
            raise HTTPException(400, "the recordings cannot be decoded: they are damaged") from None
        except UserError:
            raise HTTPException(503, "the model cannot be loaded; see the log", {"Retry-After": "10"}) from None
        finally:
            self._held -= len(body)
        if reply.error:
            self._log("recording not decoded", level="warning", reason=reply.error)
        request.scope["recordings"] = reply.recordings
        self._metrics.recordings.inc(reply.recordings)
        if self._log_writer is not None and reply.log_rows:
            self._log_writer.write(reply.log_rows)
        return Response(reply.body, reply.status, media_type=_JSON)

    async def _read(self, request: Request, body: bytearray) -> None:
        try:
            async with asyncio.timeout(self._settings.receive_seconds):
                async for part in request.stream():
                    if len(body) + len(part) > self._largest:
                        self._refuse_size()
                    if self._held + len(part) > _LARGEST_BODIES * self._largest:
                        self._refuse_busy()
                    body += part
                    self._held += len(part)
        except TimeoutError:
            limit = self._settings.receive_seconds
            raise HTTPException(408, f"the request did not arrive within {limit:g} s") from None

    def _refuse_size(self) -> NoReturn:
        raise HTTPException(413, f"the request is larger than {self._settings.body_mb:g} MiB")

    def _refuse_busy(self) -> NoReturn:
        raise HTTPException(503, "server busy, retry later", {"Retry-After": str(self._pool.retry_after)}) from None

    async def ping(self) -> Response:
        """Return 200 while the model can answer."""
        if not self._pool.healthy:
            raise HTTPException(503, "the model cannot be loaded; see the log", {"Retry-After": "10"})
        return Response(b"\n", media_type=_JSON)

    async def version(self) -> str:
        """Return the version of this software."""
        return self._version

    async def metrics(self) -> Response:
        """Return metrics in Prometheus format."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def docs(self) -> Response:
        """Return this description as a page that loads nothing from other hosts."""
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(_page(self._app.openapi()), headers=headers)

    def _observe(self, exchange: Exchange) -> None:
        recordings = exchange.scope.get("recordings", 0)
        # one label per unknown path would fill Prometheus
        path = exchange.path if exchange.path in self.paths else "other"
        self._metrics.observe(path, exchange.status, time.perf_counter() - exchange.began)
        self._log.line(
            "request",
            id=exchange.id,
            method=exchange.method,
            path=path,
            status=exchange.status,
            seconds=round(time.perf_counter() - exchange.began, 4),
            bytes=exchange.received,
            recordings=recordings,
            model_version=self._pool.model.version or self._pool.model.digest[:12],
        )

    def _failed(self, exchange: Exchange, error: Exception) -> None:
        self._log("error", level="error", id=exchange.id, reason=f"{type(error).__name__}: {error}")


def _check_type(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "the body is compressed; send it uncompressed")
    given = ", ".join(request.headers.getlist("content-type"))
    media, *options = (part.strip().lower() for part in given.split(";"))
    if media != _JSON:
        raise HTTPException(415, f"the Content-Type is {'wrong' if media else 'missing'}; expected {_JSON}")
    if any(option not in {"", "charset=utf-8", 'charset="utf-8"'} for option in options):
        raise HTTPException(415, "the Content-Type has parameters; only charset=utf-8 is accepted")


async def _refuse(request: Request, error: Any) -> Response:
    message, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = headers["Allow"].replace("GET", "GET, HEAD")
        message = f"this path accepts {headers['Allow']}"
    elif error.status_code == 404:
        message = "not found; see /openapi.json"
    code = _CODES.get(error.status_code, "INVALID_PARAMETER_VALUE")
    return Response(schemas.refusal(message, code), error.status_code, headers, _JSON)


async def _fail(request: Request, error: Exception) -> Response:
    return Response(schemas.refusal("internal error; see the server's log", _CODES[500]), 500, media_type=_JSON)


def _page(description: dict[str, Any]) -> str:
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    rows = "".join(f"<tr><td>{name}<td>{html.escape(one['description'])}" for name, one in operations)
    [statuses] = [one["responses"] for name, one in operations if name.startswith("POST")]
    statuses = "".join(f"<tr><td>{status}<td>{html.escape(one['description'])}" for status, one in statuses.items())
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>speech-emotion</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto }}
pre {{ background: #f4f4f4; padding: 1rem }} td {{ padding-right: 1rem }}</style>
<h1>speech-emotion {html.escape(description["info"]["version"])}</h1><table>{rows}</table>
<pre>curl HOST/invocations -H 'Content-Type: application/json' --data @- &lt;&lt;END
{{"dataframe_records": [{{"audio": "$(base64 &lt; clip.wav | tr -d '\\n')"}}]}}
END</pre><table>{statuses}</table><p>Schemas: <a href="/openapi.json">/openapi.json</a></p></html>"""
