from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers import released, tracked
from speech_emotion.cli import app

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
