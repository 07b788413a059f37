"""Starts `speech-emotion app` on a free port, as a person does, where it may call nobody."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helpers.workspaces import GUARD


@dataclass
class EmotionPage:
    """A page that is served."""

    uri: str
    process: "subprocess.Popen[bytes]"
    folder: Path
    """Its working folder."""

    @property
    def temporary(self) -> Path:
        """Where its temporary files lie."""
        return self.folder / "tmp"

    @property
    def uploads(self) -> Path:
        """Where it keeps uploads."""
        [folder] = self.temporary.glob("speech-emotion-app-*")
        return folder

    @property
    def calls(self) -> str:
        """What it has tried to ask of other machines."""
        log = self.folder / "calls"
        return log.read_text() if log.exists() else ""

    @property
    def said(self) -> str:
        """What it has printed."""
        return (self.folder / "page.log").read_text()

    def files(self) -> list[Path]:
        """Return what lies in its temporary folder now, without its lock."""
        return [path for path in self.temporary.rglob("*") if path.is_file() and path.name != "lock"]


@contextmanager
def emotion_page(folder: Path, *arguments: object) -> Iterator[EmotionPage]:
    """Start the page in an empty folder, wait until it answers, and stop it as Ctrl-C does."""
    (folder / "tmp").mkdir(parents=True)
    environment = {
        **os.environ,
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": os.pathsep.join([str(GUARD), os.environ.get("PYTHONPATH", "")]),
        "NETWORK_GUARD_LOG": str(folder / "calls"),
    }
    command = [sys.executable, "-m", "speech_emotion", "app", "--port", "0", *map(str, arguments)]
    with open(folder / "page.log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    page = EmotionPage("", process, folder)
    try:
        end = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < end and not page.uri:
            time.sleep(0.1)
            found = re.search(r"^the page: (http://\S+)\n", page.said, flags=re.MULTILINE)
            page.uri = found[1] if found else ""
        assert page.uri, page.said
        yield page
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
