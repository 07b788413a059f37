"""Receive uploads within bounds, delete each when it is read, and keep recordings for `--keep`."""

import asyncio
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from filelock import FileLock, Timeout
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from speech_emotion.audio.decode import SUFFIXES, AudioError
from speech_emotion.core.io import replacing, write_json
from speech_emotion.inference.response import LONGEST_BYTES

MOST_FILES: Final = 16
"""Uploads of all clients together, received or being received."""

MOST_BYTES: Final = 4 * LONGEST_BYTES
"""Of the same uploads."""

SECONDS: Final = 60
"""An upload takes no longer, and is deleted after as long if it was not analysed."""

_FORM_BYTES: Final = 2**12
"""Of an upload beside its file."""

_PREFIX: Final = "speech-emotion-app-"
_NAME: Final = re.compile(r"[0-9a-f]{32}\.[a-z0-9]+")


class Uploads:
    """A folder of uploads, one file each under a random name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._coming: list[int] = []
        """Bytes of each upload that is being received."""

    async def receive(self, request: Request) -> Response:
        """Receive a multipart form with one file, and answer with its path as Gradio does."""
        length = request.headers.get("content-length", "")
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            return refusal(400, "not a form with a file")
        if not length.isdecimal() or len(length) > 12 or "transfer-encoding" in request.headers:
            return refusal(411, "the length of the upload is missing")
        if int(length) > LONGEST_BYTES + _FORM_BYTES:
            return refusal(413, f"the file exceeds the maximum allowed size of {LONGEST_BYTES >> 20} MiB")
        sizes = [*self._coming, *(state.st_size for state in self._files().values())]
        if len(sizes) >= MOST_FILES or sum(sizes) + int(length) > MOST_BYTES:
            return refusal(503, "too many uploads at once; try again in a minute")
        self._coming.append(int(length))
        try:
            async with asyncio.timeout(SECONDS), request.form(max_files=1, max_fields=0) as form:
                file = next(iter(form.values()), None)
                if not isinstance(file, UploadFile):
                    return refusal(400, "the form has no file")
                path = self.folder / f"{uuid4().hex}{_suffix(file.filename or '')}"
                with open(path, "xb") as target:
                    shutil.copyfileobj(file.file, target)
        except (MultiPartException, ValueError, ClientDisconnect, TimeoutError):
            return refusal(400, "the upload is incomplete or no form with one file")
        finally:
            self._coming.remove(int(length))
        return JSONResponse([str(path)])

    def holds(self, path: str) -> bool:
        """Return whether `path` is that of an upload."""
        return os.path.dirname(path) == str(self.folder) and _NAME.fullmatch(os.path.basename(path)) is not None

    def take(self, path: str) -> bytes:
        """Return an uploaded recording and delete it; raises AudioError if it was deleted before."""
        if self.holds(path):
            with suppress(FileNotFoundError):
                recording = Path(path).read_bytes()
                Path(path).unlink(missing_ok=True)
                return recording
        raise AudioError("is no longer here. Send it again")

    async def sweep(self) -> None:
        """Delete uploads that were not analysed within `SECONDS`."""
        for path, state in self._files().items():
            if time.time() - state.st_mtime > SECONDS:
                path.unlink(missing_ok=True)

    def _files(self) -> dict[Path, os.stat_result]:
        found = {}
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # analysed meanwhile
                if _NAME.fullmatch(path.name):
                    found[path] = path.stat()
        return found


@contextmanager
def working_folder() -> Iterator[Path]:
    """Make a temporary folder for this process, and delete those of processes that were killed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):
            state = left.lstat()
            is_own = stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid()
            if is_own and time.time() - state.st_mtime > SECONDS:  # a new folder may not be locked yet
                with FileLock(left / "lock", timeout=0):
                    shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, FileLock(Path(folder, "lock")):
        yield Path(folder).resolve()


def keep(recording: bytes, name: str, folder: Path, row: dict[str, Any]) -> Path:
    """Write a recording into `folder`, named by time, and its prediction beside it as JSON."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S")
    target = folder / f"{now}-{uuid4().hex[:12]}{_suffix(name)}"
    with replacing(target) as temporary:
        temporary.write_bytes(recording)
    write_json(target.with_suffix(".json"), row)
    return target


def _suffix(name: str) -> str:
    """Return the suffix of a client's file name; one that is not audio's could be run, shown or overwritten."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in SUFFIXES else ".audio"


def refusal(status: int, reason: str) -> Response:
    """Return a response that closes the connection, because the rest of the request is not read."""
    return PlainTextResponse(f"{reason}\n", status, headers={"Connection": "close"})
