"""A tiny search in a temporary working folder."""

from pathlib import Path

import optuna
import pytest

from helpers import tuned
from speech_emotion.tuning.objective import SearchInputs
from speech_emotion.tuning.study import Storage, create


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with features and splits and its own MLflow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    tuned.make_inputs(tmp_path)
    return tmp_path


@pytest.fixture
def inputs(workspace: Path) -> SearchInputs:
    return tuned.inputs()


@pytest.fixture
def study(inputs: SearchInputs) -> optuna.Study:
    """An empty study."""
    return create("a-study", Storage.of(inputs.tune), inputs.tune)
