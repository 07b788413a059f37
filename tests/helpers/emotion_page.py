"""Start `speech-emotion app` on a free port, without access to other machines."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from helpers.emotion_server import started, wait_until
from helpers.workspaces import GUARD


@dataclass
class EmotionPage:
    """A served page."""

    uri: str
    process: "subprocess.Popen[bytes]"
    folder: Path
    """The working folder of the process."""

    @property
    def temporary(self) -> Path:
        """The folder of temporary files."""
        return self.folder / "tmp"

    @property
    def uploads(self) -> Path:
        """The folder of uploads."""
        [folder] = self.temporary.glob("speech-emotion-app-*")
        return folder

    @property
    def calls(self) -> str:
        """Attempted connections to other machines."""
        log = self.folder / "calls"
        return log.read_text() if log.exists() else ""

    @property
    def said(self) -> str:
        """The output of the process."""
        return (self.folder / "page.log").read_text()

    def memory(self, field: str = "VmRSS") -> int:
        """Return the resident bytes of all its processes; `VmHWM`: the most of each since its start."""
        own = psutil.Process(self.process.pid)
        states = [Path(f"/proc/{one.pid}/status").read_text() for one in (own, *own.children(recursive=True))]
        return sum(1024 * int(size) for state in states for size in re.findall(rf"{field}:\s+(\d+) kB", state))

    def files(self) -> list[Path]:
        """Return the temporary files, without the lock."""
        return [path for path in self.temporary.rglob("*") if path.is_file() and path.name != "lock"]


@contextmanager
def emotion_page(folder: Path, *arguments: object) -> Iterator[EmotionPage]:
    """Start the page in an empty folder, wait until it responds, and stop it by SIGTERM."""
    (folder / "tmp").mkdir(parents=True)
    environment = {
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": os.pathsep.join([str(GUARD), os.environ.get("PYTHONPATH", "")]),
        "NETWORK_GUARD_LOG": str(folder / "calls"),
        # ignored: they would open the page to others
        **dict.fromkeys(("GRADIO_ANALYTICS_ENABLED", "GRADIO_SHARE", "GRADIO_MCP_SERVER", "GRADIO_SSR_MODE"), "True"),
    }
    command = [sys.executable, "-m", "speech_emotion", "app", "--port", "0", *map(str, arguments)]
    log = folder / "page.log"
    with started(command, folder, log, log, environment) as process:
        page = EmotionPage("", process, folder)
        wait_until(lambda: "the page: " in page.said or process.poll() is not None, seconds=240)
        assert process.poll() is None, page.said
        page.uri = page.said.partition("the page: ")[2].split()[0]
        yield page
