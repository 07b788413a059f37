import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers import tracked
from speech_emotion.cli import app
from speech_emotion.core.errors import UserError
from speech_emotion.registry import versions
from speech_emotion.registry.publish import publish
from speech_emotion.registry.relocate import relocate

pytest_plugins = ("helpers.mlflow_fixtures",)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A workspace with runs and a version, which has been moved since."""
    folder = tracked.make_workspace(tmp_path_factory.mktemp("relocation") / "before")
    shutil.copy(empty_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tracked.fill(folder)
        publish(folder, corpus=tracked.CORPUS)
    return folder.rename(folder.parent / "after")


@pytest.fixture
def moved(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same at another place once more, as the working folder."""
    folder = tmp_path / "another place"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_moved_repository(moved: Path) -> None:
    with pytest.raises((UserError, OSError)):
        versions.fetch(versions.uri(tracked.MODEL))[1]

    done = relocate()

    assert done[0] == moved / "mlruns"
    assert done[1] > 0
    assert (versions.fetch(versions.uri(tracked.MODEL))[1] / "package.json").exists()
    assert "evaluation/metrics.json" in tracked.artifacts(tracked.run_named("random/all"), "evaluation")
    assert CliRunner().invoke(app, ["registry", "relocate"]).stdout == "nothing to repair\n"
    assert not publish(moved, corpus=tracked.CORPUS).registered


def test_copy_uses_its_own_folder(moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relocate()
    experiment = tracked.client().get_experiment_by_name(tracked.MODEL)
    assert experiment is not None
    run = tracked.client().create_run(experiment.experiment_id)  # without a file yet
    copy = tmp_path / "copy"
    shutil.copytree(moved, copy)
    monkeypatch.chdir(copy)
    relocate()

    tracked.client().log_text(run.info.run_id, "later", "note.txt")

    [written] = tmp_path.rglob("note.txt")
    assert written.is_relative_to(copy)
    location = tracked.client().get_model_version_download_uri(tracked.MODEL, "1")
    assert location.startswith(copy.as_uri())


def test_files_that_only_the_original_has_are_used(
    moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relocate()
    copy = tmp_path / "copy"
    shutil.copytree(moved, copy, ignore=shutil.ignore_patterns("mlruns"))
    monkeypatch.chdir(copy)

    relocate()

    location = tracked.client().get_model_version_download_uri(tracked.MODEL, "1")
    assert location.startswith(moved.as_uri())


def test_no_database_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no database here"):
        relocate()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="manages its own addresses"):
        relocate()
