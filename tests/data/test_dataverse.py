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
from speech_emotion.data import dataverse
from speech_emotion.data.dataverse import Dataverse, RemoteFile, UnreachableError

Start = Callable[[DataverseServer], Dataverse]


def content(name: str, size: int = 50_000) -> bytes:
    return hashlib.shake_256(name.encode()).digest(size)


def dataset(*names: str, **misbehaviour: object) -> DataverseServer:
    return DataverseServer({name: content(name) for name in names or ("a.wav",)}, **misbehaviour)  # type: ignore[arg-type]


def settings(server: str, *, retries: int = 3, timeout: float = 5.0, connections: int = 3) -> DownloadSettings:
    return DownloadSettings(
        server=server,
        persistent_id=PERSISTENT_ID,
        connections=connections,
        timeout_seconds=timeout,
        retries=retries,
    )


@pytest.fixture(autouse=True)
def _quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataverse, "FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture
def connect() -> Iterator[Callable[..., Dataverse]]:
    """Serve a dataset until the end of the test, and give a client of it."""
    with ExitStack() as stack:

        def start(served: DataverseServer, **options: float) -> Dataverse:
            stack.enter_context(serve(served))
            return stack.enter_context(Dataverse(settings(served.url, **options)))  # type: ignore[arg-type]

        yield start


def fetch_all(client: Dataverse, folder: Path) -> dict[str, bytes]:
    return {file.name: (folder / file.key).read_bytes() for file in client.fetch(client.list_files(), folder)}


def test_every_file_arrives_and_nothing_partial_is_left(connect: Start, tmp_path: Path) -> None:
    served = dataset(*(f"{number}.wav" for number in range(20)))
    assert fetch_all(connect(served), tmp_path) == served.files
    assert not list(tmp_path.glob("*.part"))
    assert len(list(tmp_path.iterdir())) == 20


def test_a_file_lists_its_directory_size_and_checksum(connect: Start) -> None:
    served = dataset("OAF_fear/a.wav")
    expected = RemoteFile(
        id=100,
        name="OAF_fear/a.wav",
        size=50_000,
        algorithm="md5",
        checksum=hashlib.md5(content("OAF_fear/a.wav")).hexdigest(),
        content_type="audio/x-wav",
        ingested=False,
    )
    assert connect(served).list_files() == [expected]


def test_what_the_server_made_a_table_of_is_asked_for_as_it_was_uploaded(connect: Start, tmp_path: Path) -> None:
    table = {"filename": "a.tab", "filesize": 7, "originalFileName": "a.wav", "originalFileSize": 50_000}
    served = dataset(labels={"a.wav": {**table, "tabularData": True}})
    assert fetch_all(connect(served), tmp_path) == served.files


def test_any_checksum_that_a_dataverse_may_use_is_checked(connect: Start, tmp_path: Path) -> None:
    right = {"type": "SHA-256", "value": hashlib.sha256(content("a.wav")).hexdigest()}
    wrong = {"type": "SHA-256", "value": "0" * 64}
    served = dataset("a.wav", "b.wav", labels={"a.wav": {"checksum": right}, "b.wav": {"checksum": wrong}})
    with pytest.raises(UserError, match=r"b\.wav: given up after 2 tries: its sha256 is"):
        fetch_all(connect(served, retries=1), tmp_path)


def test_connections_work_at_the_same_time(connect: Start, tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(6)]
    meeting = threading.Barrier(len(names), timeout=20)
    served = dataset(*names, plan={name: [Act(meeting=meeting)] for name in names})
    assert fetch_all(connect(served, connections=6, timeout=30), tmp_path) == served.files
    assert not meeting.broken


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_file_cut_off_in_the_middle_comes_whole(connect: Start, tmp_path: Path, ranges: bool) -> None:
    served = dataset(plan={"a.wav": [Act(cut=20_000)]}, ranges=ranges)
    assert fetch_all(connect(served), tmp_path) == served.files
    again = served.asked("a.wav")[1]
    assert again.range == "bytes=20000-"
    assert again.sent == (30_000 if ranges else 50_000)


def test_cuts_are_endured_as_long_as_something_new_arrives(connect: Start, tmp_path: Path) -> None:
    served = dataset(plan={"a.wav": [Act(cut=4_000)] * 10})
    assert fetch_all(connect(served, retries=1), tmp_path) == served.files


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(connect: Start, tmp_path: Path) -> None:
    served = dataset(always={"a.wav": Act(cut=20_000)}, ranges=False)
    with pytest.raises(UserError, match=r"a\.wav: given up after 2 tries: .* What has arrived is kept"):
        fetch_all(connect(served, retries=1), tmp_path)
    assert [path.stat().st_size for path in tmp_path.glob("*.part")] == [20_000]


def test_what_an_earlier_process_has_left_is_gone_on_with(connect: Start, tmp_path: Path) -> None:
    served = dataset("a.wav", "b.wav", "c.wav")
    client = connect(served)
    whole, partial, damaged = client.list_files()
    (tmp_path / whole.key).write_bytes(content("a.wav"))
    (tmp_path / f"{partial.key}.part").write_bytes(content("b.wav")[:40_000])
    (tmp_path / damaged.key).write_bytes(content("c.wav")[:-1] + b"?")
    assert fetch_all(client, tmp_path) == served.files
    sent = {name: sum(request.sent for request in served.asked(name)) for name in served.files}
    assert sent == {"a.wav": 0, "b.wav": 10_000, "c.wav": 50_000}


@pytest.mark.parametrize("left", [content("another")[:9_000], b"?" * 50_000, b"?" * 60_000])
def test_a_partial_file_of_other_bytes_is_found_and_fetched_anew(connect: Start, tmp_path: Path, left: bytes) -> None:
    served = dataset()
    client = connect(served)
    [file] = client.list_files()
    (tmp_path / f"{file.key}.part").write_bytes(left)
    assert fetch_all(client, tmp_path) == served.files


def test_another_version_of_a_file_does_not_go_on_from_the_older_one(connect: Start, tmp_path: Path) -> None:
    served = dataset(plan={"a.wav": [Act(cut=20_000)]})
    with pytest.raises(UserError):
        fetch_all(connect(served, retries=0), tmp_path)
    newer = DataverseServer({"a.wav": content("newer")})
    assert fetch_all(connect(newer), tmp_path) == newer.files
    assert [request.range for request in newer.asked("a.wav")] == [""]


def test_wrong_bytes_are_asked_for_again(connect: Start, tmp_path: Path) -> None:
    served = dataset(plan={"a.wav": [Act(garbage=True)]})
    assert fetch_all(connect(served), tmp_path) == served.files


def test_bytes_that_stay_wrong_are_an_error_that_names_the_file_and_leaves_nothing(
    connect: Start, tmp_path: Path
) -> None:
    served = dataset("a.wav", always={"a.wav": Act(garbage=True)})
    with pytest.raises(UserError, match=r"a\.wav: given up after 3 tries: its md5 is \w+, and should be \w+"):
        fetch_all(connect(served, retries=2), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 429])
def test_what_may_pass_is_tried_again(connect: Start, tmp_path: Path, status: int) -> None:
    served = dataset(plan={"list": [Act(status=status)], "a.wav": [Act(status=status)] * 2})
    assert fetch_all(connect(served), tmp_path) == served.files


def test_a_server_that_stays_broken_is_given_up_with_its_own_words(connect: Start, tmp_path: Path) -> None:
    served = dataset(always={"a.wav": Act(status=500)})
    with pytest.raises(UserError, match=r"a\.wav: given up after 4 tries: 500 .* \(said by the server\)"):
        fetch_all(connect(served), tmp_path)
    assert len(served.asked("a.wav")) == 4


def test_pauses_grow(connect: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataverse, "FIRST_PAUSE_SECONDS", 0.1)
    served = dataset(plan={"list": [Act(status=500)] * 3})
    connect(served).list_files()
    times = [request.time for request in served.asked("list")]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    for number, pause in enumerate(pauses):
        assert 0.5 * 0.1 * 2**number <= pause <= 1.5 * 0.1 * 2**number + 0.2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_no_is_final(connect: Start, tmp_path: Path, status: int) -> None:
    served = dataset("a.wav", always={"a.wav": Act(status=status)})
    with pytest.raises(UserError, match=rf"a\.wav: the server says no: {status} .*\(said by the server\)"):
        fetch_all(connect(served), tmp_path)
    assert len(served.asked("a.wav")) == 1


def test_a_no_to_one_file_ends_the_others_at_once(connect: Start, tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(50)]
    served = dataset(*names, always={"0.wav": Act(status=404)}, piece=1000, pause=0.02)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"0\.wav"):
        fetch_all(connect(served), tmp_path)
    assert time.monotonic() - began < 5, "all 50 would take 17 seconds"
    assert not any(thread.name.startswith("download") for thread in threading.enumerate())


def test_an_unknown_dataset_says_which_settings_to_check(connect: Start) -> None:
    client = connect(dataset())
    wrong = client.settings.model_copy(update={"persistent_id": "doi:10.1/2"})
    with Dataverse(wrong) as other, pytest.raises(UserError, match=r"doi:10\.1/2: .*404.*download\.persistent_id"):
        other.list_files()


@pytest.mark.parametrize("status", [429, 503])
def test_the_server_is_given_the_time_it_asks_for(connect: Start, tmp_path: Path, status: int) -> None:
    served = dataset(plan={"a.wav": [Act(status=status, headers={"Retry-After": "1"})]})
    assert fetch_all(connect(served), tmp_path) == served.files
    first, second = served.asked("a.wav")
    assert 1 <= second.time - first.time < 2


def test_the_time_may_be_given_as_a_date(connect: Start, tmp_path: Path) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    served = dataset(plan={"a.wav": [Act(status=429, headers={"Retry-After": date})]})
    assert fetch_all(connect(served), tmp_path) == served.files
    first, second = served.asked("a.wav")
    assert 0.5 <= second.time - first.time < 3


def test_while_the_server_asks_for_time_no_connection_asks_for_anything(connect: Start, tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(30)]
    served = dataset(*names, plan={"5.wav": [Act(status=429, headers={"Retry-After": "1"})]})
    fetch_all(connect(served), tmp_path)
    asked = served.asked("5.wav")[0].time
    assert not [request for request in served.requests if asked + 0.5 < request.time < asked + 1]


def test_a_server_that_wants_an_hour_is_not_waited_for(connect: Start, tmp_path: Path) -> None:
    served = dataset(always={"a.wav": Act(status=429, headers={"Retry-After": "3600"})})
    with pytest.raises(UserError, match="come back in 60 minutes"):
        fetch_all(connect(served), tmp_path)


def test_a_server_that_falls_silent_is_asked_again(connect: Start, tmp_path: Path) -> None:
    served = dataset(plan={"a.wav": [Act(silence=1.5)]})
    assert fetch_all(connect(served, timeout=0.3), tmp_path) == served.files
    assert len(served.asked("a.wav")) >= 2


def test_a_slow_server_is_waited_for(connect: Start, tmp_path: Path) -> None:
    served = dataset(piece=2_500, pause=0.1)
    assert fetch_all(connect(served, timeout=0.8), tmp_path) == served.files
    assert len(served.asked("a.wav")) == 1


def test_a_redirect_to_an_object_store_keeps_the_range(connect: Start, tmp_path: Path) -> None:
    with serve(dataset("a.wav")) as store:
        location = {"Location": f"{store.url}/api/access/datafile/100"}
        served = dataset(always={"a.wav": Act(status=303, headers=location)})
        store.plan["a.wav"] = [Act(cut=20_000)]
        assert fetch_all(connect(served), tmp_path) == served.files
        assert [request.sent for request in store.asked("a.wav")] == [20_000, 30_000]


def test_no_server_is_unreachable_and_soon(unused_port: int) -> None:
    began = time.monotonic()
    with (
        Dataverse(settings(f"http://127.0.0.1:{unused_port}", retries=20)) as client,
        pytest.raises(UnreachableError, match=f"http://127.0.0.1:{unused_port} cannot be reached"),
    ):
        client.list_files()
    assert time.monotonic() - began < 5


@pytest.fixture
def unused_port() -> int:
    with serve(dataset()) as served:
        return int(served.url.rsplit(":", 1)[1])


@pytest.mark.parametrize("answer", ["<html>log in</html>", "[]", '{"data": [{}]}', '{"data": null}', "{}"])
def test_what_is_no_dataverse_is_told_so(connect: Start, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    served = dataset()
    served.listing = lambda: answer.encode()  # type: ignore[method-assign]
    with pytest.raises(UserError, match="does not speak the Dataverse API"):
        connect(served).list_files()


def test_a_name_or_checksum_from_the_server_leads_nowhere_else(connect: Start, tmp_path: Path) -> None:
    served = DataverseServer({"../../../evil.wav": content("evil")})
    folder = tmp_path / "files"
    folder.mkdir()
    fetch_all(connect(served), folder)
    assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [folder]
    crafted = dataset(labels={"a.wav": {"checksum": {"type": "MD5", "value": "../../evil"}}})
    with pytest.raises(UserError, match="does not speak the Dataverse API"):
        connect(crafted).list_files()
