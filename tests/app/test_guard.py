"""Attack the page over HTTP."""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from helpers import recordings
from helpers.emotion_page import EmotionPage, emotion_page

SECRET = "only for the owner"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmotionPage]:
    with emotion_page(tmp_path_factory.mktemp("page") / "home") as page:
        (page.folder / "secret.wav").write_text(SECRET)
        os.mkfifo(page.folder / "fifo")
        yield page
    assert page.calls == ""


def file(path: object) -> dict[str, Any]:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def functions(page: EmotionPage) -> list[int]:
    """Return the numbers of the page's functions that take a file."""
    config = httpx.get(f"{page.uri}/config").json()
    return [one["id"] for one in config["dependencies"] if len(one["inputs"]) == 1]


def answer(page: EmotionPage, data: Any, *, function: int) -> str:
    """Call a function of the page as its own script does, and return every event until it is done."""
    call = {"data": [data], "fn_index": function, "session_hash": "attack"}
    joined = httpx.post(f"{page.uri}/gradio_api/queue/join", json=call, timeout=30)
    if joined.status_code != 200:
        return f"{joined.status_code} {joined.text}"
    events = []
    with httpx.stream("GET", f"{page.uri}/gradio_api/queue/data?session_hash=attack", timeout=30) as stream:
        for line in stream.iter_lines():
            events.append(line)
            if "process_completed" in line or "close_stream" in line:
                break
    return "\n".join(events)


@pytest.mark.parametrize("name", ["secret.wav", "fifo", "/dev/zero", "/etc/passwd"])
@pytest.mark.parametrize("several", [False, True], ids=["one", "list"])
def test_foreign_paths_are_refused(served: EmotionPage, name: str, several: bool) -> None:
    path = served.folder / name
    for function in functions(served):
        assert answer(served, [file(path)] if several else file(path), function=function).startswith("403")
    assert [one for one in served.files() if SECRET in one.read_text(errors="replace")] == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.wav", "HTTPS://example.org/a.wav", "file:///etc/passwd"])
def test_urls_are_refused(served: EmotionPage, url: str) -> None:
    for function in functions(served):
        assert answer(served, file(url), function=function).startswith("403")


def test_files_of_the_machine_are_not_served(served: EmotionPage) -> None:
    for path in (served.folder / "secret.wav", "/etc/passwd", "http://127.0.0.1:1/a"):
        assert httpx.get(f"{served.uri}/gradio_api/file={path}").status_code in {403, 404}


@pytest.mark.parametrize("path", ["proxy=http://127.0.0.1:1/", "deep_link?session_hash=a", "runs"])
def test_routes_of_gradio_are_closed(served: EmotionPage, path: str) -> None:
    assert httpx.get(f"{served.uri}/gradio_api/{path}").status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "localhost.evil.example", "", "[::1"])
def test_foreign_hosts_are_refused(served: EmotionPage, host: str) -> None:
    assert httpx.get(f"{served.uri}/config", headers={"Host": host}).status_code in {400, 403}


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_foreign_origins_are_refused(served: EmotionPage, origin: str) -> None:
    assert httpx.get(f"{served.uri}/config", headers={"Origin": origin}).status_code == 403


def test_uploads_work(served: EmotionPage) -> None:
    uploaded = httpx.post(
        f"{served.uri}/gradio_api/upload",
        files={"files": ("a.wav", recordings.encoded(recordings.tone()))},
        headers={"Origin": served.uri},
    )

    found = answer(served, file(uploaded.json()[0]), function=functions(served)[-1])

    assert '"success":true' in found.replace(" ", "")
