"""Fixtures for tests that use MLflow: a workspace, and an empty database to copy."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import tracked
from speech_emotion.tracking import connection


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow created; a copy saves its migrations, which take a second."""
    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    connection.connect(connection.MlflowLocation(f"sqlite:///{file}", None)).search_experiments()
    return file


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
