import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from helpers.recordings import encoded, tone
from speech_emotion.core.errors import UserError, in_words
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

Prepare = Callable[..., None]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with settings and a raw tree of six good recordings."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    raw = tmp_path / "raw"
    raw.mkdir()
    utterances = [Utterance(Path(f"{n}.wav"), "S", ("sad", "joy")[n % 2]) for n in range(6)]
    for number, one in enumerate(utterances):
        (raw / one.path).write_bytes(encoded(tone(0.5 + number / 10)))
    write_table(raw, utterances)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def prepare(root: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Run the stage in this process."""
    stage = runpy.run_path(str(root / "pipeline" / "prepare.py"))

    def run(out: str = "out") -> None:
        monkeypatch.setattr(sys, "argv", ["prepare.py", "raw", out])
        stage["main"]()

    return run


def test_bad_recordings_stop_the_stage_or_are_left_out(
    workspace: Path, prepare: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare()
    assert tuple(capsys.readouterr()) == ("6 recordings, 4 s\nlabels: joy (3), sad (3)\nspeakers: S (6)\n", "")
    assert list(read(workspace / "out" / "manifest.csv")["id"]) == ["0", "1", "2", "3", "4", "5"]
    assert (workspace / "out" / "bad_recordings.csv").read_text() == "path,reason\n"
    assert {path.name for path in workspace.iterdir()} == {"params.yaml", "raw", "out", ".scratch"}
    before = digest_folder(workspace / "out")
    (workspace / "raw" / "1.wav").write_bytes(b"")

    with pytest.raises(UserError, match=r"^1 of 6 recordings cannot be used:\n  1\.wav: is empty .*\n.*leave_out"):
        prepare()

    assert digest_folder(workspace / "out") == before
    report = pd.read_csv(workspace / ".scratch" / "prepare" / "bad_recordings.csv")
    assert report.to_numpy().tolist() == [["1.wav", "is empty (0 bytes)"]]
    (workspace / "params.yaml").write_text(PARAMS.replace("stop", "leave_out"))
    prepare()
    assert "5 recordings, 4 s, 1 left out" in capsys.readouterr().out
    assert list(read(workspace / "out" / "manifest.csv")["id"]) == ["0", "2", "3", "4", "5"]
    assert "1.wav,is empty (0 bytes)\n" in (workspace / "out" / "bad_recordings.csv").read_text()


def test_refuses_unsupported_protocols(workspace: Path, prepare: Prepare) -> None:
    (workspace / "params.yaml").write_text(PARAMS.replace("random", "random, word, speaker"))

    with pytest.raises(UserError, match=r"(?s)split 'word'.*split 'speaker'"):
        prepare()
    assert not (workspace / "out").exists()


@pytest.mark.parametrize(("occupied", "out"), [(".scratch", "out"), ("out", "out"), ("data", "data/mine/manifest")])
def test_file_in_the_way(workspace: Path, prepare: Prepare, occupied: str, out: str) -> None:
    (workspace / occupied).write_text("in the way")

    with pytest.raises(OSError, match=occupied) as error:
        prepare(out)

    assert in_words(error.value).endswith("A file lies where a folder is needed: move it away, or name another place.")
    assert (workspace / occupied).read_text() == "in the way"
