from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers import released, tracked
from speech_emotion.cli import app
from speech_emotion.config.evaluation import BootstrapSettings, EvaluateSettings
from speech_emotion.registry.compare_versions import MetricComparison, compare, read_predictions

pytest_plugins = ("helpers.mlflow_fixtures",)

SETTINGS = EvaluateSettings(calibration_bins=10, bootstrap=BootstrapSettings(resamples=300, seed=1))


@pytest.fixture(autouse=True)
def _inside(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(three)


def compared(first: str, second: str) -> list[MetricComparison]:
    return compare(tracked.CORPUS, (first, second), SETTINGS)[1]


def test_better_version() -> None:
    found = compared("1", "challenger")

    [uar] = [line for line in found if (line.protocol, line.metric) == ("random", "uar")]
    assert uar.first > uar.second
    assert uar.difference.value == pytest.approx(uar.first - uar.second)
    assert uar.difference.interval.low > 0


def test_command(tmp_path: Path, three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = (released.ROOT / "params.yaml").read_text().replace("  name: tess ", f"  name: {tracked.CORPUS} ")
    (tmp_path / "params.yaml").write_text(params)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{three / 'mlflow.db'}")

    result = CliRunner().invoke(app, ["compare", "1", "3"])

    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in result.stdout.splitlines() if line.startswith("random\tuar")]
    assert len(lines) == 1
    assert float(lines[0][4]) > 0


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
