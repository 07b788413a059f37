"""Fixtures for tests that use MLflow: a workspace, and an empty database to copy."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import released, tracked
from speech_emotion.tracking import connection


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow created; a copy saves its migrations, which take a second."""
    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    connection.connect(connection.MlflowLocation(f"sqlite:///{file}", None)).search_experiments()
    return file


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A workspace with three registered versions: two good ones, and a poor one, the challenger. Tests only read it."""
    folder = tracked.make_workspace(tmp_path_factory.mktemp("three") / "a workspace")
    shutil.copy(empty_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, skill in ((1, 0.9), (2, 0.9), (3, 0.5)):
            released.release(folder, seed=seed, skill=skill)
    return folder


@pytest.fixture
def workspace(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace before training, as the working folder."""
    folder = tracked.make_workspace(tmp_path / "a workspace")
    shutil.copy(empty_database, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield folder
    # MLflow creates a folder when it takes the address of its database for a path
    assert not (tmp_path / "a%20workspace").exists()
