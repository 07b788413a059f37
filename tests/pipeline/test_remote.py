"""Push the DVC cache to S3, and pull it into another clone, which then computes nothing."""

from pathlib import Path

import pytest

from helpers import services
from helpers.workspaces import DemoRun, Workspace, commit, git, stages_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_push_and_pull(demo_run: DemoRun, tmp_path: Path) -> None:
    author, folder = demo_run.copy(tmp_path / "author"), tmp_path / "colleague"
    colleague = Workspace(folder, {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"})
    with services.s3("team") as address:
        author.run("dvc", "remote", "add", "--default", "team", "s3://team/speech-emotion")
        author.run("dvc", "remote", "modify", "team", "endpointurl", address)
        author.run("dvc", "push")
        commit(author.folder)
        git("clone", "--quiet", str(author.folder), str(folder), at=author.folder)
        colleague.run("dvc", "pull")

    output = colleague.run("dvc", "repro")

    assert stages_run(output) == ["publish"]
    assert colleague.outs() == author.outs()
    assert all((folder / path).exists() for path in colleague.outs())
