from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers import tracked
from speech_emotion.cli import app
from speech_emotion.core.errors import UserError
from speech_emotion.registry.model_resolution import fetch
from speech_emotion.registry.publish import publish
from speech_emotion.registry.relocate import relocate

pytest_plugins = ("helpers.mlflow_fixtures",)

CHALLENGER = f"models:/{tracked.MODEL}@challenger"


def test_moved_folder(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.fill(workspace)
    publish(workspace, corpus=tracked.CORPUS)
    moved = workspace.rename(tmp_path / "another place")
    monkeypatch.chdir(moved)
    with pytest.raises((UserError, OSError)):
        fetch(CHALLENGER)

    assert relocate()[0] == moved / "mlruns"

    assert (fetch(CHALLENGER).folder / "package.json").exists()
    assert "evaluation/metrics.json" in tracked.artifacts(tracked.run_named("random/all"), "evaluation")
    assert CliRunner().invoke(app, ["registry", "relocate"]).stdout == "nothing to repair\n"
    assert not publish(moved, corpus=tracked.CORPUS).registered
    # what is logged later goes to the new folder too
    tracked.train(moved, "word")
    assert tracked.artifacts(tracked.run_named("word/all"), "training")
    assert not (tmp_path / "a workspace").exists()


def test_no_database_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        relocate()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="manages its own addresses"):
        relocate()
