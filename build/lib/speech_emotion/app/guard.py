"""Protect the web page from foreign hosts and origins, URLs as files, and unused routes of Gradio."""

import ipaddress
import json
import os
import re
import socket
import stat
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_CALL: Final = 2**20
"""Bytes of a call's JSON body. Recordings are uploaded as multipart forms, which Gradio limits itself."""

_CLOSED: Final = re.compile(
    r"/(gradio_api/)?(proxy=|deep_link|component_server|stream/|custom_component/|file=https?:|runs|run-history|dev/)"
)
_CALLS: Final = re.compile(r"/(gradio_api/)?(queue/join|run/|api/|call/)")


class Guard:
    """ASGI middleware in front of Gradio.

    * The Host header must be an IP address, `localhost` or the name of this machine. A site that resolves its own name
      to this machine (DNS rebinding) sends that name.
    * The Origin header, if present, must match the Host header.
    * A file that a call names must be a regular file in the folder of uploads. Gradio would copy and serve any file
      that this process can read, and fetch a URL.
    * Routes that proxy, share or store state are closed.
    """

    def __init__(self, app: ASGIApp, *, host: str, uploads: Path) -> None:
        self._app, self._uploads = app, os.path.realpath(uploads)
        self._names = {"localhost", host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if scope["type"] != "http":
            return
        if not self._is_own(host):
            await _refuse(403, "unknown host", scope, receive, send)
        elif "origin" in headers and urlsplit(headers["origin"]).netloc.lower() != host.lower():
            await _refuse(403, "foreign origin", scope, receive, send)
        elif _CLOSED.match(scope["path"]):
            await _refuse(404, "not found", scope, receive, send)
        elif scope["method"] == "POST" and _CALLS.match(scope["path"]):
            await self._call(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive, LONGEST_CALL)
        if body is None:
            await _refuse(413, "the call is too long", scope, receive, send)
            return
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            await _refuse(400, "not JSON", scope, receive, send)
            return
        if not all(self._is_upload(path) for path in _paths(content)):
            await _refuse(403, "not an uploaded file", scope, receive, send)
            return
        passed = False

        async def again() -> Message:
            nonlocal passed
            if passed:
                return await receive()
            passed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    def _is_upload(self, path: str) -> bool:
        try:
            real = os.path.realpath(path)
            inside = os.path.commonpath([real, self._uploads]) == self._uploads
            return inside and stat.S_ISREG(os.lstat(real).st_mode)
        except (OSError, ValueError):
            return False

    def _is_own(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


def _paths(content: Any) -> list[str]:
    """Return every `path` in a JSON value, however deep."""
    found: list[str] = []
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "path" in one:
                found.append(str(one["path"]))
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found


async def _read(receive: Receive, most: int) -> bytes | None:
    """Return the body of a request; None: it is longer than `most` bytes."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if not message.get("more_body"):
            return body


async def _refuse(status: int, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"{reason}\n", status, headers={"Connection": "close"})(scope, receive, send)
