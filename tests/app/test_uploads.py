import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from speech_emotion.app.guard import Guard
from speech_emotion.app.uploads import MOST_BYTES, MOST_FILES, SECONDS, Uploads, keep, working_folder
from speech_emotion.audio.decode import AudioError
from speech_emotion.inference.response import LONGEST_BYTES


@pytest.fixture
def received(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path)


@pytest.fixture
def client(received: Uploads) -> Iterator[TestClient]:
    with TestClient(Guard(Starlette(), received, inputs={}), base_url="http://localhost") as client:
        yield client


def send(client: TestClient, content: bytes = b"voice", name: str = "a.wav") -> "tuple[int, str]":
    answer = client.post("/gradio_api/upload", files={"files": (name, content)})
    return answer.status_code, answer.json()[0] if answer.status_code == 200 else answer.text


def age(path: Path) -> None:
    os.utime(path, (time.time() - 2 * SECONDS,) * 2)


def test_takes_uploads_once(client: TestClient, received: Uploads) -> None:
    mine = received.folder / "mine.wav"
    mine.write_bytes(b"voice")
    first, second = send(client)[1], send(client)[1]

    assert received.take(first) == b"voice"
    assert received.take(second) == b"voice"

    for path in (first, str(mine)):
        with pytest.raises(AudioError, match="Send it again"):
            received.take(path)
    assert list(received.folder.iterdir()) == [mine]


def test_bounds_number_of_uploads(client: TestClient, received: Uploads) -> None:
    sent = [send(client) for _ in range(MOST_FILES)]

    assert [status for status, _ in sent] == [200] * MOST_FILES
    assert send(client)[0] == 503
    received.take(sent[0][1])
    assert send(client)[0] == 200


def test_bounds_size_of_uploads(client: TestClient, received: Uploads) -> None:
    for number in range(MOST_BYTES // LONGEST_BYTES):
        with open(received.folder / f"{number:032x}.wav", "wb") as file:
            file.truncate(LONGEST_BYTES)

    assert send(client)[0] == 503
    assert send(client, bytes(LONGEST_BYTES + 2**16))[0] == 413


def test_sweeps_forgotten_uploads(client: TestClient, received: Uploads) -> None:
    old, new = Path(send(client)[1]), Path(send(client)[1])
    age(old)

    asyncio.run(received.sweep())

    assert (old.exists(), new.exists()) == (False, True)


def test_killed_process_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import time\n"
        "from speech_emotion.app.uploads import working_folder\n"
        "with working_folder() as folder:\n"
        "    (folder / 'voice.wav').write_bytes(b'voice')\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        age(left)
        with working_folder():
            assert (left / "voice.wav").exists()  # the process is alive
        process.kill()
        process.wait()
    age(left)

    with working_folder() as own:
        assert list(tmp_path.iterdir()) == [own]
    assert list(tmp_path.iterdir()) == []


def test_foreign_folders_are_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "speech-emotion-app-link").symlink_to(tmp_path / "mine")
    (tmp_path / "speech-emotion-app-new").mkdir()
    (tmp_path / "speech-emotion-app-file").write_text("")

    with working_folder():
        pass

    assert len(list(tmp_path.iterdir())) == 4
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("name", ["a.json", "a.JSON", "a.wav", "a", ".json", "a.json/", "../../a.json", "a.partial"])
def test_keeps_recording_beside_result(tmp_path: Path, name: str) -> None:
    target = keep(b"voice", name, tmp_path / "kept", {"label": "happy"})

    assert target.read_bytes() == b"voice"
    [recording, result] = sorted((tmp_path / "kept").iterdir(), key=lambda path: path.suffix == ".json")
    assert (recording, result) == (target, target.with_suffix(".json"))
    assert "happy" in result.read_text()
