"""Read an upload and delete it, except in the folder that the user named with `--keep`."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from speech_emotion.audio.decode import AudioError
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, write_json


def prepare(folder: Path) -> Path:
    """Make the folder for what is kept, and return it.

    Raises
    ------
    UserError
        It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: is no folder that recordings can be kept in ({error.strerror}).") from None
    return folder


def keep(recording: bytes, suffix: str, folder: Path, row: dict[str, Any]) -> Path:
    """Write a recording into `folder` under a name that begins with the time, its answer beside it as JSON."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S")
    target = folder / f"{now}-{uuid4().hex[:6]}{suffix.lower()}"
    with replacing(target) as aside:
        aside.write_bytes(recording)
    write_json(target.with_suffix(".json"), row)
    return target


def take(upload: Path, uploads: Path) -> bytes:
    """Return an uploaded recording, and delete it and the folder of its own that it lay in.

    Raises
    ------
    AudioError
        It is gone: somebody else has sent the same bytes at the same moment, which the toolkit keeps in one file.
    """
    upload, uploads = upload.resolve(), uploads.resolve()
    if not upload.is_relative_to(uploads):
        raise ValueError(f"{upload} is no upload")
    try:
        recording = upload.read_bytes()
    except FileNotFoundError:
        raise AudioError("was not here any more. Send it again") from None
    upload.unlink(missing_ok=True)
    with suppress(OSError):  # it holds another upload
        upload.parent.rmdir()
    return recording


@contextmanager
def swept(uploads: Path, seconds: float) -> Iterator[None]:
    """Delete, every `seconds`, the files that lie in a folder for as long: nobody has asked for an answer to them."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(seconds):
            sweep(uploads, seconds)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


def sweep(uploads: Path, seconds: float) -> None:
    """Delete the files below a folder that were last written to more than `seconds` ago."""
    for path in list(uploads.rglob("*")):
        with suppress(FileNotFoundError):  # it was taken meanwhile
            if path.is_file() and time.time() - path.stat().st_mtime > seconds:
                path.unlink()
