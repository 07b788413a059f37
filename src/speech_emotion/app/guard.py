"""Protect the web page: known hosts and routes only, checked calls, bounded uploads."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from speech_emotion.app.uploads import Uploads, refusal

LONGEST_CALL: Final = 2**14
"""Bytes of a call. Recordings are uploaded apart from it."""

JOIN: Final = "/gradio_api/queue/join"
UPLOAD: Final = "/gradio_api/upload"
PROGRESS: Final = "/gradio_api/upload_progress"
FILE: Final = "/gradio_api/file="
"""The player fetches what was just recorded."""

_READ: Final = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static|svelte)(/[\w-][\w.-]*)+"
    r"|/gradio_api/(startup-events|queue/data|heartbeat/\w+)"
)
"""What the page's own script reads. Gradio has fifty more routes, which proxy, share, store and serve files."""


class _File(BaseModel):
    path: str
    orig_name: str = ""
    meta: dict[Literal["_type"], Literal["gradio.FileData"]] = {"_type": "gradio.FileData"}


class _Call(BaseModel):
    """A call of a function of the page, with nothing in it that the page does not use."""

    data: Annotated[list[_File | None], Field(max_length=2)]
    """A file, and null for the speaker profile, which Gradio keeps."""
    fn_index: int
    session_hash: Annotated[str, Field(pattern=r"^\w{1,64}$")]
    trigger_id: int | None = None


class Guard:
    """ASGI middleware in front of Gradio.

    * The Host header must be an IP address, `localhost`, the name of this machine or one of `names`. A site that
      resolves its own name to this machine (DNS rebinding) sends that name.
    * The Origin header, if present, must match the Host header.
    * Routes that the page does not use are closed.
    * A call may name one upload and nothing else. Gradio would copy and serve any file that this process can read.
      `inputs` is the number of inputs of each function of the page.
    * Uploads are received by `Uploads`, which bounds their number and size.
    """

    def __init__(self, app: ASGIApp, uploads: Uploads, *, inputs: Mapping[int, int], names: Iterable[str] = ()) -> None:
        self._app, self._uploads, self._inputs = app, uploads, inputs
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, answer it or pass it on."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        request = Request(scope, receive)
        answer = self._refuse(request) or await self._answer(request)
        if isinstance(answer, Response):
            return await answer(scope, receive, send)
        await self._app(scope, receive if answer is None else _with_body(answer, receive), send)

    def _refuse(self, request: Request) -> Response | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self._is_own(host):
            return refusal(403, "unknown host")
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            return refusal(403, "foreign origin")
        path = request.scope["path"]
        if request.method == "POST":
            known = path in {JOIN, UPLOAD}
        else:
            file = path.startswith(FILE) and self._uploads.holds(path.removeprefix(FILE))
            known = request.method in {"GET", "HEAD"} and bool(file or _READ.fullmatch(path) or path == PROGRESS)
        return None if known else refusal(404, "not found")

    async def _answer(self, request: Request) -> Response | bytes | None:
        """Return the answer, or the body that Gradio is to read instead of the request's."""
        if request.scope["path"] == PROGRESS:
            return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")
        if request.method != "POST":
            return None
        if request.scope["path"] == UPLOAD:
            return await self._uploads.receive(request)
        body = b""
        try:
            async for part in request.stream():
                body += part
                if len(body) > LONGEST_CALL:
                    return refusal(413, "the call is too long")
            call = _Call.model_validate_json(body)
        except (ValidationError, ClientDisconnect):
            return refusal(400, "not a call of this page")
        if self._inputs.get(call.fn_index) != len(call.data):
            return refusal(400, "not a function of this page")
        if any(file is not None and not self._uploads.holds(file.path) for file in call.data):
            return refusal(403, "not an uploaded file")
        return call.model_dump_json().encode()

    def _is_own(self, host: str) -> bool:
        with suppress(ValueError):  # no name of a host, or no IP address
            name = (urlsplit(f"//{host}").hostname or "").lower()
            return name in self._names or ipaddress.ip_address(name) is not None
        return False


def _with_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives `body` first."""
    waiting = [body]

    async def first() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return first
