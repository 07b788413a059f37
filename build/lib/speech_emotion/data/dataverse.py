"""Download the files of a dataset from a Dataverse server, each checked against its checksum.

API: https://guides.dataverse.org/en/latest/api/native-api.html (list the files of a version) and
https://guides.dataverse.org/en/latest/api/dataaccess.html (download one file). The bulk zip of a dataset may omit files
silently, so every file is requested on its own.
"""

import email.utils
import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from speech_emotion.config.data import DownloadSettings
from speech_emotion.core.errors import UserError

FIRST_PAUSE_SECONDS: Final = 0.5
"""Before the second try; it doubles at each further one."""
LONGEST_PAUSE_SECONDS: Final = 60.0
LONGEST_RETRY_AFTER_SECONDS: Final = 900.0
"""Who is asked to come back later than this is told so, instead of being kept waiting."""
TRIES_OF_A_SILENT_SERVER: Final = 3
"""A server that has never answered is given up sooner: most often this machine is offline."""

_RETRIED_STATUS: Final = frozenset({408, 425, 429})

T = TypeVar("T")


class UnreachableError(UserError):
    """The server has not answered at all: this machine is offline, or the server is."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a dataset, as the server lists it.

    Attributes
    ----------
    id : int
        The server's number for it.
    name : str
        Its path as it was uploaded. It comes from outside: fit to be shown, not to be written to.
    size : int or None
        Bytes, where the server says so.
    algorithm, checksum : str
        The first as `hashlib` names it, the second in hex; "" where the server says nothing.
    content_type : str
        What the server takes it for, such as ``audio/x-wav``.
    ingested : bool
        The server has made a table of it, and gives the uploaded bytes only when asked for the original.
    """

    id: int
    name: str
    size: int | None
    algorithm: str
    checksum: str
    content_type: str
    ingested: bool

    @property
    def key(self) -> str:
        """A file name that stands for these very bytes: another version of the file has another one."""
        return f"{self.id}-{self.checksum or self.size}"

    def mistake(self, path: Path) -> str:
        """Return what is wrong with a copy of this file; "" if nothing is."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"{size:,} of {self.size:,} bytes arrived"
        if self.checksum:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, self.algorithm).hexdigest()
            if found != self.checksum:
                return f"its {self.algorithm} is {found}, and should be {self.checksum}"
        return ""


class Dataverse:
    """A Dataverse server, asked with few connections, growing pauses, and no more once it has said no.

    Parameters
    ----------
    settings : DownloadSettings
        Server, dataset, connections, timeout and retries. Tries that bring no new byte count as retries, others do not.

    Examples
    --------
    >>> with Dataverse(settings) as server:  # doctest: +SKIP
    ...     for file in server.fetch(server.list_files(), folder):
    ...         print(file.name)
    """

    def __init__(self, settings: DownloadSettings) -> None:
        self.settings = settings
        self.server = settings.server.rstrip("/")
        self._pace = _Pace()
        self._answered = False
        self._client = httpx.Client(
            follow_redirects=True,  # many servers send on to an object store
            timeout=settings.timeout_seconds,
            # compressed on its way, a range would not be a range of the file
            headers={"Accept-Encoding": "identity", "User-Agent": "speech-emotion"},
            limits=httpx.Limits(max_connections=settings.connections),
        )

    def __enter__(self) -> "Dataverse":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def list_files(self) -> list[RemoteFile]:
        """Return the files of the dataset's latest version.

        Raises
        ------
        UnreachableError
            There is no answer.
        UserError
            The server says no, or what answers is no Dataverse.
        """
        url = f"{self.server}/api/datasets/:persistentId/versions/:latest/files"
        text = self._persistently(self.settings.persistent_id, lambda _: self._get_text(url))
        try:
            return [_remote_file(entry) for entry in json.loads(text)["data"]]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise UserError(
                f"{url}: what answers does not speak the Dataverse API (it begins with {text[:60]!r}). "
                "Check download.server in params.yaml, and whether a log-in page stands in the way."
            ) from None

    def fetch(self, files: Sequence[RemoteFile], folder: Path) -> Iterator[RemoteFile]:
        """Bring files into a folder, each as `folder / file.key`, and yield each as soon as it is there and checked.

        What the folder holds from before is used: whole files are checked again, of others only the rest is asked for.

        Parameters
        ----------
        files : sequence of RemoteFile
            What `list_files` gave, or some of it.
        folder : Path
            A folder that outlives a kill. A file on its way ends in ``.part``.

        Yields
        ------
        RemoteFile
            In the order in which they arrive.

        Raises
        ------
        UserError
            The server refuses a file, or does not give it whole in as many tries as the settings allow.
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
            # the first error, or Ctrl-C, ends the other downloads too; what has arrived stays
            self._pace.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _fetch_one(self, file: RemoteFile, folder: Path) -> None:
        target, part = folder / file.key, folder / f"{file.key}.part"
        if target.exists():
            if not file.mistake(target):
                return
            target.unlink()
        self._persistently(file.name, lambda progress: self._continue(file, part, progress))
        part.replace(target)

    def _continue(self, file: RemoteFile, part: Path, progress: "_Progress") -> None:
        """Ask for what is missing of a file; return if it is whole then."""
        start = part.stat().st_size if part.exists() and file.size is not None else 0
        if start == 0 or start < (file.size or 0):
            self._receive(file, part, start, progress)
        mistake = file.mistake(part)
        if mistake:
            if file.size is None or part.stat().st_size >= file.size:
                part.unlink()
            raise _RetryError(mistake)

    def _receive(self, file: RemoteFile, part: Path, start: int, progress: "_Progress") -> None:
        url = f"{self.server}/api/access/datafile/{file.id}"
        params = {"format": "original"} if file.ingested else {}
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._client.stream("GET", url, params=params, headers=headers) as response:
            self._answered = True
            if start and not _continues(response, start):
                part.unlink()
                raise _RetryError("the server does not go on where the file was cut off")
            _check_status(response)
            # a server that knows no ranges answers 200, with the file from its beginning
            mode = "ab" if response.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
            # no buffers, in httpx or here: what has come before a cut or a kill is in the file
            with open(part, mode, buffering=0) as output:
                for chunk in response.iter_raw():
                    self._pace.check()
                    output.write(chunk)
                    progress.reached(output.tell())
                    if file.size is not None and output.tell() > file.size:
                        break

    def _get_text(self, url: str) -> str:
        response = self._client.get(url, params={"persistentId": self.settings.persistent_id})
        self._answered = True
        _check_status(response)
        return response.text

    def _persistently(self, what: str, attempt: "Callable[[_Progress], T]") -> T:
        """Try until it works, the server says no, or too many tries in a row have brought nothing new."""
        progress = _Progress()
        failures = 0
        while True:
            self._pace.wait()
            before = progress.bytes
            try:
                return attempt(progress)
            except _RefusedError as error:
                raise UserError(f"{self.server}: {what}: {error}") from None
            except (_RetryError, httpx.TransportError) as error:
                failures = 1 if progress.bytes > before else failures + 1
                if failures > self.settings.retries or (not self._answered and failures >= TRIES_OF_A_SILENT_SERVER):
                    raise self._giving_up(what, failures, error) from None
                if isinstance(error, _RetryError) and error.after is not None:
                    self._pace.hold_everybody(error.after)
                else:
                    self._pace.sleep(_pause(failures))
            except (httpx.RequestError, httpx.InvalidURL) as error:
                raise UserError(f"{self.server}: {what}: {_describe(error)}") from None

    def _giving_up(self, what: str, failures: int, error: Exception) -> UserError:
        if not self._answered:
            return UnreachableError(f"{self.server} cannot be reached ({_describe(error)})")
        return UserError(
            f"{self.server}: {what}: given up after {failures} {'try' if failures == 1 else 'tries'}: "
            f"{_describe(error)}. What has arrived is kept: start again, and it goes on from there."
        )


class _RetryError(Exception):
    """It did not work, and may work later: `after` so many seconds, where the server says so."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class _RefusedError(Exception):
    """The server has understood, and says no."""


class _StoppedError(Exception):
    """Another download has failed, and this one need not go on."""


class _Progress:
    """How far a file has ever come, which starting anew does not set back."""

    def __init__(self) -> None:
        self.bytes = 0

    def reached(self, count: int) -> None:
        self.bytes = max(self.bytes, count)


class _Pace:
    """What the connections share: an order to stop, and a time before which nobody may ask."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._not_before = 0.0

    def stop(self) -> None:
        self._stopped.set()

    def check(self) -> None:
        if self._stopped.is_set():
            raise _StoppedError

    def sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise _StoppedError

    def hold_everybody(self, seconds: float) -> None:
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def wait(self) -> None:
        self.check()
        while (rest := self._not_before - time.monotonic()) > 0:
            # a little apart, lest all come back at the same moment
            self.sleep(rest + random.uniform(0, FIRST_PAUSE_SECONDS))


def _remote_file(entry: dict[str, Any]) -> RemoteFile:
    file = entry["dataFile"]
    ingested = bool(file.get("originalFileFormat") or file.get("tabularData"))
    # of a table the server lists its own file, and beside it what was uploaded; the checksum is of the upload
    name = file.get("originalFileName") or file.get("filename") or entry["label"]
    size = file.get("originalFileSize") if ingested else file.get("filesize")
    checksum = file.get("checksum") or {"type": "MD5", "value": file.get("md5") or ""}
    algorithm = checksum["type"].replace("-", "").lower()
    return RemoteFile(
        id=int(file["id"]),
        name="/".join(filter(None, (entry.get("directoryLabel"), name))),
        size=None if size is None else int(size),
        algorithm=algorithm,
        checksum=_hexadecimal(checksum["value"]) if algorithm in hashlib.algorithms_guaranteed else "",
        content_type=file.get("contentType") or "",
        ingested=ingested,
    )


def _hexadecimal(checksum: str) -> str:
    # it becomes part of a file name
    if not re.fullmatch("[0-9a-fA-F]*", checksum):
        raise ValueError(f"no checksum: {checksum!r}")
    return checksum.lower()


def _check_status(response: httpx.Response) -> None:
    status = response.status_code
    if response.is_success:
        return
    response.read()
    said = f"{status} {response.reason_phrase}{_message(response)}"
    if status not in _RETRIED_STATUS and status < 500:
        raise _RefusedError(f"the server says no: {said}. {_advice(status)}")
    after = _retry_after(response)
    if after is not None and after > LONGEST_RETRY_AFTER_SECONDS:
        raise _RefusedError(f"the server is busy ({said}) and asks to come back in {after / 60:.0f} minutes.")
    raise _RetryError(said, after)


def _continues(response: httpx.Response, start: int) -> bool:
    """Return whether the answer to a range can be used (or is an error with a message of its own)."""
    if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        return False
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return True
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _message(response: httpx.Response) -> str:
    """Return what a Dataverse server adds to a status, if it does."""
    try:
        return f" ({response.json()['message']})"
    except (ValueError, LookupError, TypeError):
        return ""


def _advice(status: int) -> str:
    if status in (401, 403):
        return "The recordings may have been restricted; its web page tells."
    if status in (404, 410):
        return "Check download.server and download.persistent_id in params.yaml."
    return "Trying again would not help."


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the server asks for, given as a number or as a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _pause(failures: int) -> float:
    """Return the seconds before the next try: twice as long each time, and never quite the same for two clients."""
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (failures - 1)) * random.uniform(0.5, 1.5)


def _describe(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__
