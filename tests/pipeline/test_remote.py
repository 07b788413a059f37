"""A team's cache: pushed to a folder or to S3, pulled into another clone, where then nothing is left to be computed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import services
from helpers.workspaces import DemoRun, Workspace, commit, git

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_folder_carries_everything_to_another_clone(demo_run: DemoRun, tmp_path: Path) -> None:
    author = demo_run.copy(tmp_path / "author")
    author.run("dvc", "remote", "add", "--default", "team", str(tmp_path / "remote"))

    check_travel(author, tmp_path / "colleague")


def test_an_s3_bucket_carries_everything_to_another_clone(demo_run: DemoRun, s3: str, tmp_path: Path) -> None:
    author = demo_run.copy(tmp_path / "author")
    author.run("dvc", "remote", "add", "--default", "team", "s3://team/speech-emotion")
    author.run("dvc", "remote", "modify", "team", "endpointurl", s3)

    check_travel(author, tmp_path / "colleague")


def check_travel(author: Workspace, folder: Path) -> None:
    """Push, commit, clone, pull: the clone has every output, and only publish is left to be run."""
    author.run("dvc", "push")
    commit(author.folder)
    git("clone", "--quiet", str(author.folder), str(folder), at=author.folder)
    colleague = Workspace(folder, {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"})

    colleague.run("dvc", "pull")
    output = colleague.run("dvc", "repro")

    assert "Running stage 'publish'" in output
    assert output.count("Running stage") == 1
    assert colleague.outs() == author.outs()
    assert all((folder / path).exists() for path in colleague.outs())


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a server that speaks S3, with a bucket named `team`."""
    with services.s3("team") as address:
        yield address
