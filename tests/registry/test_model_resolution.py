import subprocess
import sys
from pathlib import Path

import pytest

from helpers import released, tracked
from helpers.tiny_package import make_package
from speech_emotion.core.errors import UserError
from speech_emotion.registry.model_resolution import PRETRAINED, choose

pytest_plugins = ("helpers.mlflow_fixtures",)

BUILT_IN = "the built-in model"


def test_built_in_model_without_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    choice = choose(None)

    assert (choice.words, choice.recognizer.package.folder) == (BUILT_IN, PRETRAINED)
    assert choice.versions == {"model": "", "model_version": "", "package_digest": choice.recognizer.package.digest}
    assert list(tmp_path.iterdir()) == []


def test_params_of_another_project_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text("lr: 0.1\n")
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")

    assert choose(None).words == BUILT_IN


@pytest.fixture
def corpus(workspace: Path) -> Path:
    """A workspace whose corpus is fully named."""
    (workspace / "params.yaml").write_text(f"corpus: {{name: {tracked.CORPUS}, kind: demo, source: data/incoming}}\n")
    return workspace


def test_built_in_model_without_a_champion(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released.release(corpus, seed=1, skill=0.9)
    assert choose(None).words == BUILT_IN

    for uri in ("localhost:5000", "http://127.0.0.1:9"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert choose(None).words == BUILT_IN


@pytest.mark.slow
def test_champion_of_the_workspace(corpus: Path) -> None:
    released.release(corpus, seed=1, skill=0.9)
    released.ask(1, reason="the first that we trust")

    choice = choose(None)

    assert choice.words == f"the champion of {tracked.MODEL}, version 1"
    assert choice.versions["model"] == tracked.MODEL
    assert choice.recognizer.package.digest == choice.versions["package_digest"]
    assert choice.recognizer.package.description.corpus != "tess"


def test_named_model(workspace: Path) -> None:
    make_package(workspace / "mine")

    assert choose("mine").words == "mine"
    with pytest.raises(UserError, match="no model package found"):
        choose("nowhere")


def test_mlflow_is_not_imported_without_a_database(tmp_path: Path, root: Path) -> None:
    program = (
        "import sys; from speech_emotion.registry.model_resolution import choose; "
        "choose(None); print('mlflow' in sys.modules)"
    )
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())

    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
