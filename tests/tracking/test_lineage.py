import subprocess
from pathlib import Path

import pytest

from helpers import tracked
from speech_emotion.tracking.lineage import dvc_tags, locked_outputs, source_tags


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return tracked.make_workspace(tmp_path / "clone")


def test_clean_clone_is_its_commit(clone: Path) -> None:
    # what DVC writes is not a source
    tracked.evaluate(clone, "random", {"all": 0.5})
    tracked.write_lock(clone, models="5" * 32)

    commit = tracked.git(clone, "rev-parse", "HEAD")
    assert source_tags(clone) == {"git.commit": commit, "git.source_dirty": "false", "git.params_dirty": "false"}


@pytest.mark.parametrize(
    ("changed", "source", "params"),
    [("params.yaml", "false", "true"), ("src/code.py", "true", "false"), ("src/new.py", "true", "false")],
)
def test_changes_are_noticed(clone: Path, changed: str, source: str, params: str) -> None:
    (clone / changed).write_text("a = 1\n")

    found = source_tags(clone)

    assert (found["git.source_dirty"], found["git.params_dirty"]) == (source, params)


@pytest.mark.parametrize("repository", [False, True])
def test_tags_without_a_commit(tmp_path: Path, repository: bool) -> None:
    if repository:
        subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)

    assert all(value.startswith("unknown") for value in source_tags(tmp_path).values())


@pytest.mark.parametrize("content", ["", "not: [yaml", "stages:\n  split:\n"])
def test_no_hashes_without_a_valid_lock(tmp_path: Path, content: str) -> None:
    assert locked_outputs(tmp_path) == {}
    (tmp_path / "dvc.lock").write_text(content)

    assert dvc_tags(tmp_path, "tiny") == {"dvc.lock": "absent"}
