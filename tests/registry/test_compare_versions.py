from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers import released, tracked
from speech_emotion.cli import app
from speech_emotion.registry.compare_versions import read_predictions

pytest_plugins = ("helpers.mlflow_fixtures",)


def test_command(tmp_path: Path, three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = (released.ROOT / "params.yaml").read_text().replace("  name: tess ", f"  name: {tracked.CORPUS} ")
    (tmp_path / "params.yaml").write_text(params)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{three / 'mlflow.db'}")

    result = CliRunner().invoke(app, ["compare", "1", "challenger"])

    assert result.exit_code == 0, result.output
    [line] = [line.split("\t") for line in result.stdout.splitlines() if line.startswith("random\tuar")]
    first, second, difference = map(float, line[2:5])
    assert 0 < difference == pytest.approx(first - second, abs=2e-4)
    assert line[5].startswith("+")


def test_numeric_labels_stay_text(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text('{"random": "x"}')
    (tmp_path / "random.csv").write_text(
        "fold,id,speaker,emotion,text,prediction,p_01,p_02\nall,1,007,01,,01,0.9,0.1\nall,2,NA,02,1e3,01,0.8,0.2\n"
    )

    found = read_predictions(tmp_path)["random"]

    assert found.labels == ("01", "02")
    [fold] = found.folds
    assert fold.truth.tolist() == [0, 1]
    assert found.utterances == (("all", "1"), ("all", "2"))
