"""Push the DVC cache to a folder or to S3, and pull it into another clone, which then computes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import services
from helpers.workspaces import DemoRun, Workspace, commit, git, stages_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("remote", ["folder", "s3"])
def test_push_and_pull(demo_run: DemoRun, s3: str, tmp_path: Path, remote: str) -> None:
    author, folder = demo_run.copy(tmp_path / "author"), tmp_path / "colleague"
    url = str(tmp_path / "remote") if remote == "folder" else "s3://team/speech-emotion"
    author.run("dvc", "remote", "add", "--default", "team", url)
    if remote == "s3":
        author.run("dvc", "remote", "modify", "team", "endpointurl", s3)
    author.run("dvc", "push")
    commit(author.folder)
    git("clone", "--quiet", str(author.folder), str(folder), at=author.folder)
    colleague = Workspace(folder, {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"})

    colleague.run("dvc", "pull")
    output = colleague.run("dvc", "repro")

    assert stages_run(output) == ["publish"]
    assert colleague.outs() == author.outs()
    assert all((folder / path).exists() for path in colleague.outs())


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a server that speaks S3, with a bucket named `team`."""
    with services.s3("team") as address:
        yield address
