import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from helpers.recordings import encoded, tone
from speech_emotion.core.io import digest_folder
from speech_emotion.data.corpora.base import Utterance
from speech_emotion.data.labels import write_table
from speech_emotion.data.manifest import read

PARAMS = """\
corpus: {name: mine, kind: folder, source: data/incoming}
prepare: {bad_recordings: stop, min_seconds: 0.2, max_seconds: 60.0, silence_dbfs: -60.0}
split: {protocols: [random, full], seed: 7, test_share: 0.2, validation_share: 0.2}
compute: {workers: 1}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with settings, and a raw tree of six good recordings."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    raw = tmp_path / "raw"
    raw.mkdir()
    utterances = [Utterance(Path(f"{n}.wav"), "S", ("sad", "joy")[n % 2]) for n in range(6)]
    for number, one in enumerate(utterances):
        (raw / one.path).write_bytes(encoded(tone(0.5 + number / 10)))
    write_table(raw, utterances)
    return tmp_path


def prepare(workspace: Path, root: Path, out: str = "out") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "pipeline" / "prepare.py"), "raw", out]
    return subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=60)


def test_prints_counts_and_writes_the_manifest(workspace: Path, root: Path) -> None:
    result = prepare(workspace, root)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "6 recordings, 4 s\nlabels: joy (3), sad (3)\nspeakers: S (6)\n"
    assert list(read(workspace / "out" / "manifest.csv")["id"]) == ["0", "1", "2", "3", "4", "5"]
    assert (workspace / "out" / "bad_recordings.csv").read_text() == "path,reason\n"
    assert {path.name for path in workspace.iterdir()} == {"params.yaml", "raw", "out", ".scratch"}


def test_bad_recordings_stop_the_stage(workspace: Path, root: Path) -> None:
    assert prepare(workspace, root).returncode == 0
    before = digest_folder(workspace / "out")
    (workspace / "raw" / "1.wav").write_bytes(b"")
    result = prepare(workspace, root)
    assert result.returncode == 1
    assert result.stderr.startswith("error: 1 of 6 recordings cannot be used:\n  1.wav: is empty (0 bytes)\n")
    assert "leave_out" in result.stderr
    assert digest_folder(workspace / "out") == before
    report = pd.read_csv(workspace / ".scratch" / "prepare" / "bad_recordings.csv")
    assert report.to_numpy().tolist() == [["1.wav", "is empty (0 bytes)"]]


def test_leaves_out_bad_recordings(workspace: Path, root: Path) -> None:
    (workspace / "params.yaml").write_text(PARAMS.replace("stop", "leave_out"))
    (workspace / "raw" / "1.wav").write_bytes(b"not audio")
    result = prepare(workspace, root)
    assert result.returncode == 0
    assert "5 recordings, 4 s, 1 left out" in result.stdout
    assert list(read(workspace / "out" / "manifest.csv")["id"]) == ["0", "2", "3", "4", "5"]
    assert "1.wav,is not audio that can be read\n" in (workspace / "out" / "bad_recordings.csv").read_text()


def test_refuses_unsupported_protocols(workspace: Path, root: Path) -> None:
    (workspace / "params.yaml").write_text(PARAMS.replace("random", "random, word, speaker"))
    result = prepare(workspace, root)
    assert result.returncode == 1
    assert "split 'word'" in result.stderr
    assert "split 'speaker'" in result.stderr
    assert not (workspace / "out").exists()


@pytest.mark.parametrize(
    ("occupied", "out"),
    [(".scratch", "out"), ("out", "out"), ("data", "data/manifest"), ("data", "data/mine/manifest")],
    ids=["scratch", "the output", "its folder", "the folder above"],
)
def test_file_in_the_way(workspace: Path, root: Path, occupied: str, out: str) -> None:
    (workspace / occupied).write_text("in the way")
    result = prepare(workspace, root, out)
    assert result.returncode == 1
    assert result.stderr in {
        f"error: {occupied}: {why}. A file lies where a folder is needed: move it away, or name another place.\n"
        for why in ("Not a directory", "File exists")
    }
    assert (workspace / occupied).read_text() == "in the way"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_full_disk(workspace: Path, root: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from speech_emotion.core.process import run_stage\n"
        "run_stage(lambda: Path('/dev/full').write_text('a'))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=workspace, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr == "error: No space left on device. Make room on the disk that is written to.\n"
