import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from speech_emotion.core.io import canonical_json, digest_folder, replacing, replacing_folder, write_json


def test_a_file_takes_its_place_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "a" / "file") as aside:
        aside.write_text("new")
        assert not (tmp_path / "a" / "file").exists()

    assert (tmp_path / "a" / "file").read_text() == "new"
    assert os.listdir(tmp_path / "a") == ["file"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()

    with contextlib.suppress(RuntimeError), replacing(tmp_path / "file") as aside:
        aside.write_text("half")
        raise RuntimeError
    with contextlib.suppress(RuntimeError), replacing_folder(tmp_path / "folder") as folder:
        (folder / "half").touch()
        raise RuntimeError

    assert (tmp_path / "file").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert os.listdir(tmp_path / "folder") == ["old"]


@pytest.mark.parametrize("kind", ["replacing", "replacing_folder"])
def test_what_a_killed_process_left_is_removed_by_the_next(kind: str, tmp_path: Path) -> None:
    script = (
        f"import os, sys; from pathlib import Path; from speech_emotion.core.io import {kind} as writing\n"
        "with writing(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "target")], check=False)
    assert len(os.listdir(tmp_path)) == 1

    with replacing(tmp_path / "target") as aside:
        aside.write_text("whole")

    assert os.listdir(tmp_path) == ["target"]


def test_what_a_living_process_is_writing_stays(tmp_path: Path) -> None:
    with replacing(tmp_path / "target") as first, replacing(tmp_path / "target") as second:
        assert first.exists()
        assert second.exists()


def test_json_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    assert canonical_json({"b": 1, "a": [1.5, None]}) == canonical_json({"a": [1.5, None], "b": 1})

    write_json(tmp_path / "x.json", {"b": 1, "a": "é"})

    assert (tmp_path / "x.json").read_bytes() == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()


def test_a_folders_digest_sees_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = digest_folder(tmp_path)
    (tmp_path / "a").write_text("2")
    second = digest_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")

    assert len({first, second, digest_folder(tmp_path)}) == 3
