"""Atomic writing, CSV tables, digests, and folders with unreadable or irregular entries."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from helpers.irregular import IRREGULAR, unreadable
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import (
    canonical_json,
    digest_folder,
    open_regular_file,
    replacing,
    replacing_folder,
    require_regular_file,
    walk_files,
    write_json,
)
from speech_emotion.core.tables import read_table, write_table


def test_replaces_a_file_at_once(tmp_path: Path) -> None:
    with replacing(tmp_path / "a" / "file") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a" / "file").exists()

    assert (tmp_path / "a" / "file").read_text() == "new"
    assert os.listdir(tmp_path / "a") == ["file"]


def test_failure_keeps_the_old(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()

    with contextlib.suppress(RuntimeError), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with contextlib.suppress(RuntimeError), replacing_folder(tmp_path / "folder") as folder:
        (folder / "half").touch()
        raise RuntimeError

    assert (tmp_path / "file").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert os.listdir(tmp_path / "folder") == ["old"]


@pytest.mark.parametrize("kind", ["replacing", "replacing_folder"])
def test_removes_leftovers_of_killed_process(kind: str, tmp_path: Path) -> None:
    script = (
        f"import os, sys; from pathlib import Path; from speech_emotion.core.io import {kind} as writing\n"
        "with writing(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "target")], check=False)
    assert len(os.listdir(tmp_path)) == 1

    with replacing(tmp_path / "target") as temporary:
        temporary.write_text("whole")

    assert os.listdir(tmp_path) == ["target"]


def test_keeps_files_of_living_process(tmp_path: Path) -> None:
    with replacing(tmp_path / "target") as first, replacing(tmp_path / "target") as second:
        assert first.exists()
        assert second.exists()


def test_json_does_not_depend_on_order(tmp_path: Path) -> None:
    assert canonical_json({"b": 1, "a": [1.5, None]}) == canonical_json({"a": [1.5, None], "b": 1})

    write_json(tmp_path / "x.json", {"b": 1, "a": "é"})

    assert (tmp_path / "x.json").read_bytes() == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()


def test_text_columns_stay_text(tmp_path: Path) -> None:
    cells = ["01", "1", "NA", "1e3", "true", "", "a,b", 'say "ü"', "two\nlines", " x "]
    table = pd.DataFrame({"speaker": cells, "uar": [0.5] * len(cells)})

    write_table(tmp_path / "x.csv", table)

    pd.testing.assert_frame_equal(read_table(tmp_path / "x.csv"), table, check_dtype=False)


@pytest.mark.parametrize("content", [None, b"", b"a,b\n1,2\n1,2,3\n", b"a\n\xff\n"])
def test_unreadable_table_is_one_message(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.csv").write_bytes(content)

    with pytest.raises(UserError, match=r"x\.csv: .*Run it again\.$"):
        read_table(tmp_path / "x.csv", advice="Run it again.")


def test_folder_digest_covers_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = digest_folder(tmp_path)
    (tmp_path / "a").write_text("2")
    second = digest_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")

    assert len({first, second, digest_folder(tmp_path)}) == 3


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("kind", IRREGULAR)
def test_rejects_irregular_files(kind: str, link: bool, tmp_path: Path) -> None:
    path = IRREGULAR[kind](tmp_path / "x.wav")
    if link:
        (tmp_path / "link.wav").symlink_to(path)
        path = tmp_path / "link.wav"

    with pytest.raises(OSError, match=f"{kind}, not a regular file"):
        open_regular_file(path)
    with pytest.raises(UserError, match=f"is {kind}, not a regular file"):
        require_regular_file(path)


def test_walks_links_once_and_skips_hidden(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    for path in (tmp_path / "top" / "b" / "2.wav", tmp_path / "top" / "1.wav", outside / "3.wav"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in (".hidden", "__MACOSX"):
        (tmp_path / "top" / name).mkdir()
        (tmp_path / "top" / name / "4.wav").touch()
    (tmp_path / "top" / "c").symlink_to(outside)
    (tmp_path / "top" / "b" / "circle").symlink_to(tmp_path / "top")

    found = [path.relative_to(tmp_path / "top").as_posix() for path in walk_files(tmp_path / "top")]

    assert found == ["1.wav", "b/2.wav", "c/3.wav"]
    assert len(walk_files(tmp_path / "top", hidden=True)) == 5


def test_unreadable_subfolder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("top", "locked").mkdir(parents=True)

    with unreadable(Path("top", "locked")), pytest.raises(UserError, match=r"top/locked: folder cannot be read"):
        walk_files(Path("top"))
