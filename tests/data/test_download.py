import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from helpers.dataverse_server import PERSISTENT_ID, Act, DataverseServer, serve
from speech_emotion.config.data import DownloadSettings
from speech_emotion.core.errors import UserError
from speech_emotion.data import download
from speech_emotion.data.download import Downloader, RemoteFile, UnreachableError, list_dataverse

Start = Callable[..., Downloader]


def content(name: str, size: int = 50_000) -> bytes:
    return hashlib.shake_256(name.encode()).digest(size)


def dataset(*names: str, **misbehaviour: object) -> DataverseServer:
    return DataverseServer({name: content(name) for name in names or ("a.wav",)}, **misbehaviour)  # type: ignore[arg-type]


def settings(server: str, *, retries: int = 3, timeout: float = 5.0, connections: int = 3) -> DownloadSettings:
    dataset = {"server": server, "persistent_id": PERSISTENT_ID}
    return DownloadSettings(**dataset, connections=connections, timeout_seconds=timeout, retries=retries)


@pytest.fixture(autouse=True)
def _quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture
def connect() -> Iterator[Start]:
    """Serve a dataset until the end of the test, and give a client of it."""
    with ExitStack() as stack:

        def start(served: DataverseServer, **options: float) -> Downloader:
            if not served.url:
                stack.enter_context(serve(served))
            return stack.enter_context(Downloader(settings(served.url, **options)))  # type: ignore[arg-type]

        yield start


def files_of(client: Downloader) -> list[RemoteFile]:
    return list_dataverse(client, client.settings.server, client.settings.persistent_id)


def fetch_all(client: Downloader, folder: Path) -> dict[str, bytes]:
    return {file.name: (folder / file.key).read_bytes() for file in client.fetch(files_of(client), folder)}


def test_requests_the_upload_behind_a_table(connect: Start, tmp_path: Path) -> None:
    table = {"filename": "a.tab", "filesize": 7, "originalFileName": "a.wav", "originalFileSize": 50_000}
    served = dataset(labels={"a.wav": {**table, "tabularData": True}})
    assert fetch_all(connect(served), tmp_path) == served.files


def test_checks_other_checksums(connect: Start, tmp_path: Path) -> None:
    right = {"type": "SHA-256", "value": hashlib.sha256(content("a.wav")).hexdigest()}
    wrong = {"type": "SHA-256", "value": "0" * 64}
    served = dataset("a.wav", "b.wav", labels={"a.wav": {"checksum": right}, "b.wav": {"checksum": wrong}})
    with pytest.raises(UserError, match=r"b\.wav: gave up after 2 tries: its sha256 is"):
        fetch_all(connect(served, retries=1), tmp_path)


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_resumes_a_cut_file(connect: Start, tmp_path: Path, ranges: bool) -> None:
    served = dataset(plan={"a.wav": [Act(cut=20_000)]}, ranges=ranges)
    assert fetch_all(connect(served), tmp_path) == served.files
    again = served.asked("a.wav")[1]
    assert again.range == "bytes=20000-"
    assert again.sent == (30_000 if ranges else 50_000)


def test_progress_resets_retries(connect: Start, tmp_path: Path) -> None:
    served = dataset(plan={"a.wav": [Act(cut=4_000)] * 10})
    assert fetch_all(connect(served, retries=1), tmp_path) == served.files


def test_gives_up_without_progress(connect: Start, tmp_path: Path) -> None:
    served = dataset(always={"a.wav": Act(cut=20_000)}, ranges=False)
    with pytest.raises(UserError, match=r"a\.wav: gave up after 2 tries: .* resume"):
        fetch_all(connect(served, retries=1), tmp_path)
    assert [path.stat().st_size for path in tmp_path.glob("*.part")] == [20_000]


def test_resumes_after_an_earlier_process(connect: Start, tmp_path: Path) -> None:
    served = dataset("a.wav", "b.wav", "c.wav")
    client = connect(served)
    whole, partial, damaged = files_of(client)
    (tmp_path / whole.key).write_bytes(content("a.wav"))
    (tmp_path / f"{partial.key}.part").write_bytes(content("b.wav")[:40_000])
    (tmp_path / damaged.key).write_bytes(content("c.wav")[:-1] + b"?")
    assert fetch_all(client, tmp_path) == served.files
    sent = {name: sum(request.sent for request in served.asked(name)) for name in served.files}
    assert sent == {"a.wav": 0, "b.wav": 10_000, "c.wav": 50_000}


@pytest.mark.parametrize("left", [content("another")[:9_000], b"?" * 50_000, b"?" * 60_000])
def test_replaces_foreign_partial_bytes(connect: Start, tmp_path: Path, left: bytes) -> None:
    served = dataset()
    client = connect(served)
    [file] = files_of(client)
    (tmp_path / f"{file.key}.part").write_bytes(left)
    assert fetch_all(client, tmp_path) == served.files


def test_does_not_resume_an_older_version(connect: Start, tmp_path: Path) -> None:
    served = dataset(plan={"a.wav": [Act(cut=20_000)]})
    with pytest.raises(UserError):
        fetch_all(connect(served, retries=0), tmp_path)
    served.files["a.wav"] = content("newer")
    served.requests.clear()
    assert fetch_all(connect(served), tmp_path) == served.files
    assert [request.range for request in served.asked("a.wav")] == [""]


def test_retries_and_refuses_wrong_bytes(connect: Start, tmp_path: Path) -> None:
    served = dataset(plan={"a.wav": [Act(garbage=True)]})
    assert fetch_all(connect(served), tmp_path) == served.files
    served = dataset("b.wav", always={"b.wav": Act(garbage=True)})
    with pytest.raises(UserError, match=r"b\.wav: gave up after 3 tries: its md5 is \w+, expected \w+"):
        fetch_all(connect(served, retries=2), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_bounds_undeclared_sizes(connect: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undeclared = {"a.wav": {"filesize": None, "md5": None, "checksum": None}}
    served = dataset(labels=undeclared, piece=1_000)
    assert fetch_all(connect(served), tmp_path) == served.files
    monkeypatch.setattr(download, "LARGEST_UNDECLARED_FILE", 10_000)
    client = connect(served)
    [file] = files_of(client)
    (tmp_path / file.key).unlink()
    with pytest.raises(UserError, match=r"a\.wav: has no declared size and more than 10,000 bytes"):
        list(client.fetch([file], tmp_path))
    assert not list(tmp_path.iterdir())
    assert len(served.asked("a.wav")) == 2


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 429])
def test_retries_passing_errors(connect: Start, tmp_path: Path, status: int) -> None:
    served = dataset(plan={"list": [Act(status=status)], "a.wav": [Act(status=status)] * 2})
    assert fetch_all(connect(served), tmp_path) == served.files


def test_pauses_grow(connect: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.1)
    served = dataset(always={"list": Act(status=500)})
    with pytest.raises(UserError, match="gave up after 4 tries: 500"):
        files_of(connect(served))
    times = [request.time for request in served.asked("list")]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert len(pauses) == 3
    assert all(pause >= 0.5 * 0.1 * 2**number for number, pause in enumerate(pauses))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_does_not_retry_refusals(connect: Start, tmp_path: Path, status: int) -> None:
    served = dataset("a.wav", always={"a.wav": Act(status=status)})
    with pytest.raises(UserError, match=rf"a\.wav: {status} .*params\.yaml"):
        fetch_all(connect(served), tmp_path)
    assert len(served.asked("a.wav")) == 1


def test_a_refusal_stops_the_others(connect: Start, tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(50)]
    served = dataset(*names, always={"0.wav": Act(status=404)}, piece=1000, pause=0.02)
    with pytest.raises(UserError, match=r"0\.wav"):
        fetch_all(connect(served), tmp_path)
    assert len(served.requests) < 20
    assert not any(thread.name.startswith("download") for thread in threading.enumerate())


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_obeys_retry_after(connect: Start, tmp_path: Path, form: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    after = {"Retry-After": {"seconds": "2", "date": date}[form]}
    served = dataset(plan={"a.wav": [Act(status=429, headers=after)]})
    began = time.monotonic()
    assert fetch_all(connect(served), tmp_path) == served.files
    assert served.asked("a.wav")[1].time - began > 1.5


def test_retry_after_holds_every_connection(connect: Start, tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(30)]
    served = dataset(*names, plan={"5.wav": [Act(status=429, headers={"Retry-After": "1"})]})
    fetch_all(connect(served), tmp_path)
    asked = served.asked("5.wav")[0].time
    assert not [request for request in served.requests if asked + 0.5 < request.time < asked + 1]


def test_does_not_wait_an_hour(connect: Start, tmp_path: Path) -> None:
    served = dataset(always={"a.wav": Act(status=429, headers={"Retry-After": "3600"})})
    with pytest.raises(UserError, match="Retry in 60 minutes"):
        fetch_all(connect(served), tmp_path)


def test_retries_a_silent_server(connect: Start, tmp_path: Path) -> None:
    served = dataset(plan={"a.wav": [Act(silence=3)]})
    assert fetch_all(connect(served, timeout=1), tmp_path) == served.files
    assert len(served.asked("a.wav")) >= 2


def test_redirects_keep_the_range(connect: Start, tmp_path: Path) -> None:
    with serve(dataset("a.wav")) as store:
        location = {"Location": f"{store.url}/api/access/datafile/100"}
        served = dataset(always={"a.wav": Act(status=303, headers=location)})
        store.plan["a.wav"] = [Act(cut=20_000)]
        assert fetch_all(connect(served), tmp_path) == served.files
        assert [request.sent for request in store.asked("a.wav")] == [20_000, 30_000]


def test_unreachable_server_gives_up_early() -> None:
    with serve(dataset()) as gone:
        pass
    with (
        Downloader(settings(gone.url, retries=20)) as client,
        pytest.raises(UnreachableError, match=f"{gone.url}.*cannot be reached"),
    ):
        files_of(client)


@pytest.mark.parametrize(
    "answer", ["<html>log in</html>", "[]", '{"data": [{}]}', '{"data": null}', "{}", '{"data": ' + "[" * 100_000]
)
def test_refuses_other_services(connect: Start, answer: str) -> None:
    served = dataset()
    served.listing = lambda: answer.encode()  # type: ignore[method-assign]
    with pytest.raises(UserError, match="does not speak the Dataverse API"):
        files_of(connect(served))


def test_hostile_names_stay_in_the_folder(connect: Start, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    fetch_all(connect(DataverseServer({"../../../evil.wav": content("evil")})), folder)
    crafted = dataset(labels={"a.wav": {"checksum": {"type": "MD5", "value": "../../evil"}}})
    with pytest.raises(UserError, match=r"expected \.\./\.\./evil"):
        fetch_all(connect(crafted, retries=0), folder)
    assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [folder]
