import re
import subprocess
from pathlib import Path

import pytest

from helpers import tracked
from speech_emotion.registry.model_resolution import fetch
from speech_emotion.registry.publish import publish

pytest_plugins = ("helpers.mlflow_fixtures",)

CHALLENGER = f"models:/{tracked.MODEL}@challenger"


def test_moved_folder(workspace: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.fill(workspace)
    publish(workspace, corpus=tracked.CORPUS)
    moved = workspace.rename(tmp_path / "another place")
    monkeypatch.chdir(moved)

    # the command of the documentation
    [command] = re.findall(r"^    (sqlite3 .*)$", (root / "docs" / "promotion.md").read_text(), flags=re.MULTILINE)
    places = {"OLD": workspace.as_uri(), "NEW": moved.as_uri()}
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], env={"PATH": "/usr/bin:/bin"} | places, check=True)

    assert (fetch(CHALLENGER).folder / "package.json").exists()
    assert "evaluation/metrics.json" in tracked.artifacts(tracked.run_named("random/all"), "evaluation")
    assert not publish(moved, corpus=tracked.CORPUS).registered
    # what is logged later goes to the new folder too
    tracked.train(moved, "word")
    assert tracked.artifacts(tracked.run_named("word/all"), "training")
    assert not (tmp_path / "a workspace").exists()
