"""Starts a real Chromium without a screen, and tells whom its pages have asked."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, sync_playwright

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
MILLISECONDS = 60_000


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """Start the browser."""
    # the programs that scripts/system-packages is content with
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert program, "Chromium is not installed: scripts/system-packages installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*QUIET, *flags])
        yield browser
        browser.close()


def network_log(path: Path) -> str:
    """Return the flag that has Chromium write down all that its network does."""
    return f"--log-net-log={path}"


def asked_by_pages(log: Path) -> set[str]:
    """Return the hosts that pages, and not Chromium for itself, have asked, once the browser has ended."""
    parameters = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    return {
        urlsplit(one["url"]).hostname or ""
        for one in parameters
        if "url" in one and one.get("initiator", "").startswith("http")
    }
