"""Fixtures of the tests that speak with MLflow: a workspace to work in, and a database that is quickly made."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import tracked
from speech_emotion.tracking import connection


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as MLflow makes it: its migrations take a second, a copy takes none."""
    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    connection.connect(connection.MlflowLocation(f"sqlite:///{file}", None)).search_experiments()
    return file


@pytest.fixture
def workspace(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace before training, which is the working folder, as of a stage."""
    folder = tracked.make_workspace(tmp_path / "a workspace")
    shutil.copy(empty_database, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield folder
    # MLflow's own idea of where it is, of which it makes a folder at the first question
    assert not (tmp_path / "a%20workspace").exists()
