"""The pipeline and its tools use no network."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.workspaces import GUARD, DemoRun, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMANDS = [
    ("dvc", "status"),
    ("dvc", "metrics", "show"),
    ("dvc", "params", "diff"),
    ("dvc", "exp", "show"),
    ("mlflow", "experiments", "search"),
    ("mlflow", "doctor", "--mask-envs"),
    ("speech-emotion", "data"),
    ("speech-emotion", "runs"),
    ("speech-emotion", "publish"),
    ("speech-emotion", "predict", "--model", "models/demo/package", "data/demo/raw"),
]


@pytest.fixture(scope="module")
def demo(demo_run: DemoRun, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the demo without a network; other tests change the demo itself."""
    folder = tmp_path_factory.mktemp("offline") / "demo"
    copied = demo_run.copy(folder)
    path = os.pathsep.join([str(folder / "src"), str(GUARD)])
    return replace(copied, prefix=demo_run.demo.prefix, environment={**copied.environment, "PYTHONPATH": path})


def test_demo_uses_no_network(demo_run: DemoRun) -> None:
    assert calls(demo_run.calls) == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_uses_no_network(demo_run: DemoRun, demo: Workspace, command: tuple[str, ...]) -> None:
    before = calls(demo_run.calls)

    demo.run(*command)

    assert calls(demo_run.calls) == before


def test_plots_load_nothing(demo_run: DemoRun, demo: Workspace) -> None:
    before = calls(demo_run.calls)

    demo.run("dvc", "plots", "show", "--out", "shown")

    page = (demo.folder / "shown" / "index.html").read_text()

    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)\s*=\s*[\"']https?:", page) == []
    assert "vegaEmbed(" in page
    assert calls(demo_run.calls) == before


def test_guard_refuses_and_logs(tmp_path: Path) -> None:
    log = tmp_path / "calls.log"
    script = "import socket; socket.create_connection(('example.org', 80), timeout=2)"

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(GUARD), "NETWORK_GUARD_LOG": str(log)},
        capture_output=True,
        check=False,
    )

    assert b"no way out" in done.stderr
    assert len(calls(log)) == 1


def calls(log: Path) -> list[str]:
    """Return the logged connections."""
    return log.read_text().splitlines() if log.exists() else []
