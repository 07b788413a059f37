"""Download files over HTTP: resumed after a kill, retried politely, verified by size and checksum.

`Downloader.fetch` takes any list of `RemoteFile`. `list_dataverse` lists the files of a Dataverse dataset. Its bulk zip
may omit files silently, so request each file on its own.
"""

import email.utils
import hashlib
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpx

from speech_emotion.config.data import DownloadSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_json

FIRST_PAUSE_SECONDS: Final = 0.5
"""Before the second try; it doubles with each further one."""
LONGEST_PAUSE_SECONDS: Final = 60.0
LONGEST_RETRY_AFTER_SECONDS: Final = 900.0
TRIES_WITHOUT_ANSWER: Final = 3
"""Of a server that has never answered. Most often this machine is offline."""
LARGEST_UNDECLARED_FILE: Final = 256 << 20
"""Bytes of a file whose size is not known beforehand."""

_RETRIED_STATUS: Final = frozenset({408, 425, 429})
_CHECKSUMS: Final = frozenset({"md5", "sha1", "sha256", "sha512"})


class UnreachableError(UserError):
    """The server never answered: it or this machine is offline."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Its `name` comes from the server: show it, but never use it as a path. `size` is in bytes; `checksum` names its
    algorithm, as in ``md5:9e107d9d…``, or is "".
    """

    url: str
    name: str
    size: int | None = None
    checksum: str = ""
    content_type: str = ""

    @property
    def key(self) -> str:
        """A local file name. Another version of the file has another one."""
        return digest_json([self.url, self.size, self.checksum])[:32]

    def mistake(self, path: Path) -> str:
        """Return what is wrong with a local copy; "" if nothing is."""
        if self.size is not None and _size(path) != self.size:
            return f"{_size(path):,} of {self.size:,} bytes arrived"
        algorithm, _, expected = self.checksum.partition(":")
        if expected:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
            if found != expected:
                return f"its {algorithm} is {found}, expected {expected}"
        return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class Downloader:
    """An HTTP client with few connections and growing pauses that stops when a server refuses.

    Only tries that bring no new byte count as `settings.retries`.
    """

    def __init__(self, settings: DownloadSettings) -> None:
        self.settings = settings
        self._stopped = threading.Event()
        self._not_before = 0.0
        self._answered = False
        self._client = httpx.Client(
            follow_redirects=True,  # many servers redirect to an object store
            timeout=settings.timeout_seconds,
            # a range of a compressed answer is not a range of the file
            headers={"Accept-Encoding": "identity", "User-Agent": "speech-emotion"},
            limits=httpx.Limits(max_connections=settings.connections),
        )

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def read(self, url: str, what: str) -> bytes:
        """Return a small document, such as a list of files; `what` names it in messages."""
        with tempfile.TemporaryDirectory() as folder:
            [file] = self.fetch([RemoteFile(url, what)], Path(folder))
            return Path(folder, file.key).read_bytes()

    def size(self, url: str) -> int | None:
        """Return the size of a file in bytes, if its server declares it and can resume; else None."""
        try:
            with self._client.stream("GET", url, headers={"Range": "bytes=0-"}) as response:
                declared = response.headers.get("Content-Range", "").rpartition("/")[2]
                return int(declared) if response.status_code == 206 and declared.isdecimal() else None
        except (httpx.RequestError, httpx.InvalidURL):  # `fetch` retries and says what is wrong
            return None

    def fetch(self, files: Sequence[RemoteFile], folder: Path) -> Iterator[RemoteFile]:
        """Download files to `folder / file.key` and yield each once it is complete and verified.

        Files that are complete in `folder` are verified again; of partial ones (``.part``) only the rest is requested.
        If a server refuses a file, or fails more often than the settings allow, raise `UserError`.
        """
        pool = ThreadPoolExecutor(max_workers=self.settings.connections, thread_name_prefix="download")
        try:
            running = {pool.submit(self._fetch_one, file, folder): file for file in files}
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    yield running.pop(future)
        except BaseException:
            # the first error, or Ctrl-C, ends the other downloads too
            self._stopped.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _fetch_one(self, file: RemoteFile, folder: Path) -> None:
        target, part = folder / file.key, folder / f"{file.key}.part"
        if target.exists():
            if not file.mistake(target):
                return
            target.unlink()
        self._persistently(file, part)
        part.replace(target)

    def _complete(self, file: RemoteFile, part: Path) -> None:
        """Request the missing bytes of a file and verify it."""
        start = _size(part) if file.size is not None else 0
        if start == 0 or start < (file.size or 0):
            self._receive(file, part, start)
        mistake = file.mistake(part)
        if mistake:
            if file.size is None or _size(part) >= file.size:
                part.unlink()
            raise _RetryError(mistake)

    def _receive(self, file: RemoteFile, part: Path, start: int) -> None:
        limit = LARGEST_UNDECLARED_FILE if file.size is None else file.size
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._client.stream("GET", file.url, headers=headers) as response:
            resumes = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if start and response.status_code in (206, 416) and not resumes:
                part.unlink()
                raise _RetryError("the server does not resume where the file was cut off")
            self._check_status(response)
            # a server without ranges answers 200 with the whole file
            mode = "ab" if response.status_code == 206 else "wb"
            # unbuffered: what arrived before a cut or a kill is in the file
            with open(part, mode, buffering=0) as output:
                for chunk in response.iter_raw():
                    self._pause(0)
                    output.write(chunk)
                    if output.tell() > limit:
                        break
        if file.size is None and _size(part) > limit:
            part.unlink()
            raise UserError(f"has no declared size and more than {limit:,} bytes")

    def _check_status(self, response: httpx.Response) -> None:
        self._answered = True
        status = response.status_code
        if response.is_success:
            return
        said = f"{status} {response.reason_phrase}"
        if status not in _RETRIED_STATUS and status < 500:
            raise UserError(f"{said}. Check the section download in params.yaml, and whether the files are restricted")
        after = _retry_after(response)
        if after is not None and after > LONGEST_RETRY_AFTER_SECONDS:
            raise UserError(f"the server is busy ({said}). Retry in {after / 60:.0f} minutes")
        raise _RetryError(said, after)

    def _persistently(self, file: RemoteFile, part: Path) -> None:
        """Try until it works, the server refuses, or too many tries in a row bring no new byte."""
        failures, most, what = 0, _size(part), f"{file.url}: {file.name}"
        while True:
            while (rest := self._not_before - time.monotonic()) > 0:  # set by any connection
                self._pause(rest + random.uniform(0, FIRST_PAUSE_SECONDS))
            try:
                return self._complete(file, part)
            except (_RetryError, httpx.TransportError) as error:
                failures = 1 if _size(part) > most else failures + 1
                most = max(most, _size(part))
                reason = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or repr(error)
                if not self._answered and failures >= min(TRIES_WITHOUT_ANSWER, self.settings.retries + 1):
                    raise UnreachableError(f"{what}: cannot be reached ({reason})") from None
                if failures > self.settings.retries:
                    tries = f"{failures} {'try' if failures == 1 else 'tries'}"
                    raise UserError(f"{what}: gave up after {tries}: {reason}. Run again to resume.") from None
                if isinstance(error, _RetryError) and error.after is not None:
                    self._not_before = max(self._not_before, time.monotonic() + error.after)
                else:
                    # randomized, so that clients do not return together
                    backoff = FIRST_PAUSE_SECONDS * 2.0 ** (failures - 1) * random.uniform(0.5, 1.5)
                    self._pause(min(LONGEST_PAUSE_SECONDS, backoff))
            except (UserError, httpx.RequestError, httpx.InvalidURL) as error:
                raise UserError(f"{what}: {error}") from None

    def _pause(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise UserError("stopped, because another download failed")


class _RetryError(Exception):
    """A temporary failure. Retry after `after` seconds, if the server says so."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def list_dataverse(downloader: Downloader, server: str, persistent_id: str) -> list[RemoteFile]:
    """Return the files of a dataset's latest version on a Dataverse server.

    API: https://guides.dataverse.org/en/latest/api/native-api.html and …/api/dataaccess.html
    """
    server = server.rstrip("/")
    url = f"{server}/api/datasets/:persistentId/versions/:latest/files"
    text = downloader.read(f"{url}?{urlencode({'persistentId': persistent_id})}", persistent_id)
    try:
        return [_dataverse_file(server, entry) for entry in json.loads(text)["data"]]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"{url}: does not speak the Dataverse API (the answer begins with {text[:60]!r}). "
            "Check download.server in params.yaml, and whether a log-in page intervenes."
        ) from None


def _dataverse_file(server: str, entry: dict[str, Any]) -> RemoteFile:
    file = entry["dataFile"]
    # Dataverse also serves a converted table; the checksum is that of the original
    is_table = bool(file.get("originalFileFormat") or file.get("tabularData"))
    name = file.get("originalFileName") or file.get("filename") or entry["label"]
    size = file.get("originalFileSize") if is_table else file.get("filesize")
    checksum = file.get("checksum") or {"type": "MD5", "value": file.get("md5") or ""}
    algorithm = checksum["type"].replace("-", "").lower()
    return RemoteFile(
        url=f"{server}/api/access/datafile/{int(file['id'])}" + ("?format=original" if is_table else ""),
        name="/".join(filter(None, (entry.get("directoryLabel"), name))),
        size=None if size is None else int(size),
        checksum=f"{algorithm}:{checksum['value'].lower()}" if algorithm in _CHECKSUMS else "",
        content_type=file.get("contentType") or "",
    )


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the server asks for, as a number or as a date."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        date = None if value.isdecimal() else email.utils.parsedate_to_datetime(value)
        return float(value) if date is None else (date - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
