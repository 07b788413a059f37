import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect, sync_playwright

from helpers import recordings
from helpers.emotion_page import EmotionPage, emotion_page
from helpers.tiny_package import ENROLLED, make_package
from speech_emotion.app import examples
from speech_emotion.app.wording import rows, words
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.windows import WindowedRecognizer
from speech_emotion.registry.model_resolution import load

pytestmark = pytest.mark.slow

MILLISECONDS = 60_000
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmotionPage]:
    """The page of the built-in model."""
    with emotion_page(tmp_path_factory.mktemp("page") / "home") as page:
        yield page
    assert page.calls == ""
    assert page.process.returncode == 0, page.said
    assert "Traceback" not in page.said
    assert list(page.temporary.iterdir()) == []


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic speech, longer than two windows."""
    return examples.speak("changing", tmp_path_factory.mktemp("voice"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, voice: Path) -> Iterator[Browser]:
    """A browser whose microphone records the synthetic speech."""
    log = tmp_path_factory.mktemp("network") / "log.json"
    # the programs that scripts/system-packages is content with
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert program, "Chromium is not installed: scripts/system-packages installs it"
    flags = [*FLAGS, f"--use-file-for-fake-audio-capture={voice}", f"--log-net-log={log}"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=flags)
        expect.set_options(timeout=MILLISECONDS)
        yield started
        started.close()
    asked = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # by pages, and not by Chromium for itself
    urls = [one["url"] for one in asked if "url" in one and one.get("initiator", "").startswith("http")]
    assert {urlsplit(url).hostname for url in urls} == {"127.0.0.1"}


@pytest.fixture
def page(served: EmotionPage, browser: Browser) -> Iterator[Page]:
    """The page, opened on a desktop."""
    context = browser.new_context(viewport=DESKTOP, permissions=["microphone"])  # type: ignore[arg-type]
    opened = context.new_page()
    opened.set_default_timeout(MILLISECONDS)
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(served.uri)
    yield opened
    assert opened.locator("link[rel=preconnect], link[rel=dns-prefetch], link[rel=preload][href^=http]").count() == 0
    context.close()
    assert [url for url in asked if not url.startswith((served.uri, "data:", "blob:"))] == []
    assert served.files() == []


def drop(page: Page, name: str, content: bytes) -> None:
    page.locator("input[type=file]").first.set_input_files(file(name, content))


def file(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def test_predicts_dropped_file(page: Page, voice: Path) -> None:
    drop(page, "<i>my voice</i>.wav", voice.read_bytes())

    expect(page.locator(".se-said")).to_contain_text("<i>my voice</i>.wav, 10.")
    found = WindowedRecognizer(load())(voice)
    expect(page.locator(".se-label")).to_have_text(words(found.whole.label) if found.whole.sure else "not sure")
    for label, share in found.whole.probabilities.items():
        expect(page.get_by_test_id(f"{words(label)}-confidence-set")).to_contain_text(f"{share:.0%}")
    expect(page.locator("#plot svg")).to_be_visible()
    page.get_by_text("The windows as a table").click()
    assert len(found.windows) > 3
    for seconds, answer, _, share in rows(found.windows):
        shown = page.get_by_role("row").filter(has_text=seconds).filter(has_text=share)
        expect(shown.first).to_contain_text(answer)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.wav", recordings.wav_header()[:30], "broken.wav is not audio that can be read."),
        ("notes.txt", b"no voice at all", "notes.txt is not audio that can be read."),
        ("quiet.wav", recordings.encoded(0 * recordings.tone()), "quiet.wav is silent (never louder than -80 dBFS)."),
        ("epic.wav", recordings.encoded(recordings.tone(61.0)), "epic.wav is longer than 60 s."),
    ],
)
def test_explains_unusable_file(page: Page, name: str, content: bytes, message: str) -> None:
    drop(page, name, content)

    expect(page.get_by_role("alert").filter(has_text=name)).to_have_text(message)
    expect(page.get_by_test_id("sad-confidence-set")).not_to_be_visible()


def test_refuses_large_file(page: Page, tmp_path: Path) -> None:
    (tmp_path / "huge.wav").write_bytes(bytes(33 * 2**20))

    page.locator("input[type=file]").first.set_input_files(tmp_path / "huge.wav")

    expect(page.get_by_text("exceed the maximum allowed size of 32")).to_be_visible()


def test_predicts_microphone(page: Page) -> None:
    page.get_by_role("button", name="Record").click()
    stop = page.get_by_role("button", name="Stop").first
    expect(stop).to_be_visible()
    page.wait_for_timeout(2500)  # the length of the recording
    stop.click()

    expect(page.locator(".se-said")).to_contain_text("your recording, ")
    expect(page.locator(".se-label")).not_to_be_empty()
    expect(page.get_by_role("button", name="Record")).to_be_visible()  # ready for another


def test_example_by_keyboard(page: Page) -> None:
    button = page.get_by_role("button", name="sad", exact=True)
    for _ in range(30):
        page.keyboard.press("Tab")
        if button.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.press("Enter")

    expect(page.locator("#verdict[role=status][aria-live=polite]")).to_contain_text("synthetic speech, “sad”")
    assert page.get_by_role("heading", level=1).count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_on_a_phone(served: EmotionPage, browser: Browser, scheme: str) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme)  # type: ignore[arg-type]
    opened = context.new_page()
    opened.goto(served.uri)
    opened.get_by_role("button", name="changing", exact=True).click()

    expect(opened.locator("#plot svg")).to_be_visible()
    assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert (brightness(opened, ".se-label", "color") > 0.7) == (scheme == "dark")
    assert (brightness(opened, "body", "backgroundColor") < 0.3) == (scheme == "dark")
    context.close()


def brightness(page: Page, selector: str, style: str) -> float:
    """Return how bright a colour of an element is, from 0 to 1."""
    colour = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{style}")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765


def test_keeps_recordings(browser: Browser, tmp_path: Path) -> None:
    content = recordings.encoded(recordings.tone())
    package = make_package(tmp_path / "package").folder
    with emotion_page(tmp_path / "home", "--keep", "kept", "--model", package) as served:
        opened = browser.new_page()
        opened.goto(served.uri)
        expect(opened.locator("#heading")).to_contain_text("Recordings are kept")
        # this model was trained without references
        expect(opened.get_by_role("button", name="Record")).to_have_count(1)
        expect(opened.get_by_text("Your normal voice")).to_have_count(0)
        drop(opened, "clip.wav", content)
        expect(opened.locator(".se-said")).to_contain_text("clip.wav")
        expect(opened.locator("#plot")).not_to_be_visible()  # too short for windows
        told, kept = sorted((served.folder / "kept").iterdir())
        assert (told.suffix, kept.suffix) == (".json", ".wav")
        assert kept.read_bytes() == content
        assert '"label"' in told.read_text()

        # a folder that can no longer be written to costs nobody an answer
        shutil.rmtree(served.folder / "kept")
        (served.folder / "kept").touch()
        drop(opened, "again.wav", content)
        expect(opened.locator(".se-said")).to_contain_text("again.wav")
        opened.close()

    assert "a recording was not kept" in served.said


def test_enrolment(browser: Browser, tmp_path: Path) -> None:
    package = make_package(tmp_path / "package", enrolled=ENROLLED)
    recognizer, clip = Recognizer(package), recordings.encoded(recordings.tone(2.0))
    normal = recordings.encoded(recordings.tone(9.0, hertz=300.0))
    expected = recognizer.with_profile(recognizer.enroll([normal])).predict(clip)
    with emotion_page(tmp_path / "home", "--model", package.folder) as served:
        context = browser.new_context(viewport=DESKTOP)  # type: ignore[arg-type]
        context.set_default_timeout(MILLISECONDS)
        opened = context.new_page()
        opened.goto(served.uri)
        voice = opened.locator("#own-voice")
        opened.get_by_text("Your normal voice").click()

        voice.locator("input[type=file]").set_input_files(file("bad.wav", b"no audio"))
        expect(voice.get_by_role("alert")).to_have_text("bad.wav is not audio that can be read.")
        voice.locator("input[type=file]").set_input_files(file("normal.wav", normal))
        expect(voice.locator(".se-own")).to_contain_text("Your voice is taken into account")
        assert served.files() == []

        drop(opened, "clip.wav", clip)
        expect(opened.locator(".se-said")).to_have_text("clip.wav, compared with your normal voice, 2.0 s")
        for label, share in expected.probabilities.items():
            expect(opened.get_by_test_id(f"{label}-confidence-set")).to_contain_text(f"{share:.0%}")

        other = context.new_page()
        other.goto(served.uri)
        drop(other, "clip.wav", clip)
        expect(other.locator(".se-said")).to_have_text("clip.wav, 2.0 s")

        voice.get_by_role("button", name="Forget my voice").click()
        expect(voice.locator(".se-own")).to_have_count(0)
        drop(opened, "again.wav", clip)
        expect(opened.locator(".se-said")).to_have_text("again.wav, 2.0 s")
        context.close()
    assert "Traceback" not in served.said
