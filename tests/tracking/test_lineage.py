import subprocess
from pathlib import Path

import pytest

from helpers import tracked
from speech_emotion.tracking.lineage import LockedOutput, dvc_tags, locked_outputs, source_state


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return tracked.make_workspace(tmp_path / "clone")


def test_clean_clone_is_its_commit(clone: Path) -> None:
    # what DVC writes is not a source
    tracked.evaluate(clone, "random", {"all": 0.5})
    tracked.write_lock(clone, models="5" * 32)

    state = source_state(clone)

    assert state.commit == tracked.git(clone, "rev-parse", "HEAD")
    assert (state.source_dirty, state.params_dirty, state.patch) == (False, False, "")
    assert state.tags == {"git.commit": state.commit, "git.source_dirty": "false", "git.params_dirty": "false"}


def test_dirty_source_and_dirty_params_are_separate(clone: Path) -> None:
    (clone / "params.yaml").write_text("corpus: {name: other}\n")
    assert (source_state(clone).source_dirty, source_state(clone).params_dirty) == (False, True)

    (clone / "src" / "code.py").write_text("answer = 43\n")
    assert (source_state(clone).source_dirty, source_state(clone).params_dirty) == (True, True)


def test_patch_restores_the_working_tree(clone: Path, tmp_path: Path) -> None:
    changed = {"src/code.py": b"answer = 43\n", "src/new\xe9.py": b"caf\xe9 = 1\n", "params.yaml": b"corpus: {}\n"}
    for name, content in changed.items():
        (clone / name).write_bytes(content)
    patch = tmp_path / "source.patch"
    patch.write_bytes(source_state(clone).patch.encode("utf-8", "surrogateescape"))

    fresh = tmp_path / "fresh"
    tracked.git(tmp_path, "clone", "--quiet", str(clone), str(fresh))
    tracked.git(fresh, "apply", str(patch))

    assert {name: (fresh / name).read_bytes() for name in changed} == changed


@pytest.mark.parametrize("repository", [False, True])
def test_tags_without_a_commit(tmp_path: Path, repository: bool) -> None:
    if repository:
        subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)

    assert source_state(tmp_path).tags == {
        "git.commit": "unknown: not a git repository, or one without a commit",
        "git.source_dirty": "unknown",
        "git.params_dirty": "unknown",
    }


def test_hashes_of_dvc_lock_become_tags(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {
        "dvc.raw": "1" * 32 + ".dir",
        "dvc.manifest": "2" * 32 + ".dir",
        "dvc.features": "3" * 32 + ".dir",
        "dvc.split": "4" * 32 + ".dir",
    }
    monkeypatch.setenv("DVC_STAGE", "train")
    assert dvc_tags(locked_outputs(clone), corpus="tiny") == data | {"dvc.stage": "train"}

    monkeypatch.delenv("DVC_STAGE")
    tracked.write_lock(clone, models="5" * 32 + ".dir")
    models = {"dvc.model": "5" * 32 + ".dir"}
    assert dvc_tags(locked_outputs(clone), corpus="tiny") == data | models | {"dvc.stage": "train"}
    # while it trains, dvc.lock has the models of the previous training
    assert dvc_tags(locked_outputs(clone), corpus="tiny", trained=False) == data | {"dvc.stage": "train"}


@pytest.mark.parametrize("content", [None, "", "not: [yaml", "stages:\n", "stages:\n  split:\n"])
def test_no_hashes_without_a_lock(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "dvc.lock").write_text(content)

    assert dvc_tags(locked_outputs(tmp_path), corpus="tiny") == {"dvc.lock": "absent"}


def test_outputs_without_a_hash_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("stages: {a: {cmd: x}, b: {outs: [{path: p}, {path: q, md5: r}]}}\n")

    assert locked_outputs(tmp_path) == {"q": LockedOutput("b", "r")}
