import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from helpers.dataverse_server import Act, DataverseServer, serve
from helpers.emotion_server import wait_until
from helpers.files import tree

PARAMS = """\
corpus:
  name: tess
  kind: tess
  source: data/incoming
download:
  server: {server}
  persistent_id: doi:10.5683/SP2/E8H2MF
  connections: 4
  timeout_seconds: 10.0
  retries: 2
"""

SMALL_STAGE = """\
import json, pathlib
from speech_emotion.data.corpora.tess import TessCorpus
from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.core.process import run_stage

def main():
    corpus, download = read_section("corpus", CorpusSettings), read_section("download", DownloadSettings)
    checksums = json.loads(pathlib.Path("checksums.json").read_text())
    TessCorpus(corpus, download, checksums=checksums).fetch(pathlib.Path("data/tess/raw"))

run_stage(main)
"""
"""The stage, with another list of checksums than that of the real recordings."""

RECORDINGS = {f"OAF_{word}_fear.wav": hashlib.shake_256(word.encode()).digest(40_000) for word in map(str, range(24))}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    checksums = {f"OAF_fear/{name}": hashlib.sha256(content).hexdigest() for name, content in RECORDINGS.items()}
    (tmp_path / "checksums.json").write_text(json.dumps(checksums))
    (tmp_path / "data" / "incoming").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def start(workspace: Path) -> Iterator[Start]:
    """Start the small stage, or the real one by its path, in the workspace; what still runs at the end is killed."""
    running = []

    def started(server: str, *stage: str, **variables: str) -> "subprocess.Popen[str]":
        (workspace / "params.yaml").write_text(PARAMS.format(server=server))
        environment = {name: value for name, value in os.environ.items() if name != "TESS_DIR"} | variables
        process = subprocess.Popen(
            [sys.executable, *(stage or ("-c", SMALL_STAGE))],
            cwd=workspace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield started
    for process in running:
        process.kill()
        process.communicate()


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in tree(folder).items()}


def parts(workspace: Path) -> list[Path]:
    """The files that are on their way, and hold something already."""
    found = []
    for path in workspace.glob(".scratch/download/*/files/*.part"):
        # it may arrive, and get its final name, while we look
        with suppress(FileNotFoundError):
            found += [path] if path.stat().st_size else []
    return found


def whole(workspace: Path) -> list[Path]:
    return [path for path in workspace.glob(".scratch/download/*/files/*") if path.suffix != ".part"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_download_resumes(workspace: Path, start: Start, how: signal.Signals) -> None:
    raw = workspace / "data" / "tess" / "raw"
    with serve(DataverseServer(dict(RECORDINGS), piece=4_000, pause=0.03)) as server:
        first = start(server.url)
        wait_until(lambda: len(whole(workspace)) >= 4 and bool(parts(workspace)))
        first.send_signal(how)
        assert first.wait(timeout=20) != 0
        assert not raw.exists()
        before = {path.name: path.stat().st_size for path in (*whole(workspace), *parts(workspace))}
        server.requests.clear()
        second = start(server.url)
        output, errors = second.communicate(timeout=60)
        assert second.returncode == 0, errors
        assert "24 recordings" in output
        sent = sum(request.sent for request in server.requests if "datafile" in request.path)
        resumed = [request for request in server.requests if request.range]
    assert digests(raw) == json.loads((workspace / "checksums.json").read_text())
    assert resumed
    assert all(request.status == 206 for request in resumed)
    assert sent == 24 * 40_000 - sum(before.values())
    assert sorted(path.name for path in raw.parent.iterdir()) == ["raw"]


def test_two_downloads_at_once(workspace: Path, start: Start) -> None:
    with serve(DataverseServer(dict(RECORDINGS), piece=8_000, pause=0.01)) as server:
        both = [start(server.url), start(server.url)]
        for process in both:
            assert process.communicate(timeout=60)[1] == ""
            assert process.returncode == 0
    raw = workspace / "data" / "tess" / "raw"
    assert digests(raw) == json.loads((workspace / "checksums.json").read_text())


def test_name_is_checked_before_a_shell_sees_it(workspace: Path, root: Path) -> None:
    for file in ("dvc.yaml", "pipeline", "presets", "src"):
        (workspace / file).symlink_to(root / file)
    params = YAML().load((root / "params.yaml").read_text())
    params["corpus"]["name"] = "$(touch pwned); touch pwned"
    YAML().dump(params, workspace / "params.yaml")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=workspace, check=True)
    done = subprocess.run([*dvc, "repro", "prepare"], cwd=workspace, capture_output=True, text=True)
    assert done.returncode != 0
    assert "corpus.name" in done.stderr + done.stdout
    assert not [path for path in workspace.parent.rglob("*pwned") if path.is_file()]


@pytest.mark.slow
def test_tess_from_bad_server_with_kills(workspace: Path, root: Path, tess_dir: Path, start: Start) -> None:
    files = {path.name: path.read_bytes() for path in sorted(tess_dir.rglob("*.wav"))}
    size = sum(map(len, files.values()))
    names = list(files)
    plan = {name: [Act(cut=30_000)] for name in names[::40]}
    plan |= {name: [Act(status=500)] for name in names[1::200]}
    plan |= {name: [Act(garbage=True)] for name in names[2::200]}
    plan |= {name: [Act(status=429, headers={"Retry-After": "1"})] for name in names[3::1000]}
    stage = (str(root / "pipeline" / "download.py"),)
    with serve(DataverseServer(files, plan=plan, piece=1 << 14, pause=0.002)) as server:
        for count in (300, 900, 1500):
            process = start(server.url, *stage)
            wait_until(lambda count=count: len(whole(workspace)) >= count, 180)  # type: ignore[misc]
            process.kill()
            process.wait()
            assert not (workspace / "data" / "tess" / "raw").exists()
        process = start(server.url, *stage)
        output, errors = process.communicate(timeout=400)
        assert process.returncode == 0, errors
        sent = sum(request.sent for request in server.requests if "datafile" in request.path)
    assert "2,800 recordings" in output
    # beside the files sent as garbage, and what was on its way at a kill, nothing was asked for twice
    assert size <= sent < size * 1.03
    shutil.rmtree(workspace / "data")
