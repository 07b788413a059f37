"""Test `predict --log` and `monitor`."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.recordings import encoded
from helpers.terminal import Command
from helpers.tiny_package import make_package
from helpers.voices import logged, sounds, voices
from speech_emotion.cli import app
from speech_emotion.config.monitoring import ReferenceDataSettings
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.monitoring.reference import FILE, make, text


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a training reference."""
    folder = tmp_path_factory.mktemp("monitored") / "package"
    known = logged(Recognizer(make_package(folder)), sounds(voices(200, seed=1)))
    (folder / FILE).write_text(text(make(known, known, ReferenceDataSettings(seed=7, halvings=50))))
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings as in training, and the same 12 dB fainter."""
    folder = tmp_path_factory.mktemp("clips")
    for name, gain in (("same", 1.0), ("faint", 0.25)):
        (folder / name).mkdir()
        for number, voice in enumerate(voices(110, seed=2)):
            (folder / name / f"{number:03}.wav").write_bytes(encoded(gain * voice, coding="FLOAT"))
    return folder


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory, package: Path, clips: Path) -> Path:
    """A log of each."""
    folder = tmp_path_factory.mktemp("logs")
    for name in ("same", "faint"):
        call = ["predict", clips / name, "--model", package, "--output", folder / f"{name}.csv", "--log", folder / name]
        assert CliRunner().invoke(app, [*map(str, call)]).exit_code == 0
    return folder


def test_drift_sets_the_status(in_process: Command, logs: Path, package: Path) -> None:
    same = in_process("monitor", logs / "same", "--model", package, "--since", "2d")
    faint = in_process("monitor", logs / "faint", "--model", package)
    as_json = json.loads(in_process("monitor", logs / "faint", "--model", package, "--format", "json").stdout)

    assert (same.returncode, same.stderr.splitlines()[-1]) == (0, "no drift")
    assert faint.returncode == 3
    assert as_json["rows"] == {"recordings": 110, "answers": 110}
    assert "level_dbfs" in as_json["drifted"]
    assert as_json["measures"]["level_dbfs"]["change"] == pytest.approx(-12, abs=2)
    assert re.search(r"^drifted: .*level", faint.stderr, flags=re.MULTILINE)
    [level] = [line.split("\t") for line in faint.stdout.splitlines() if line.startswith("level\t")]
    assert level[2:4] == ["dB", "drifted"]
    assert -14 < float(level[6]) < -10


def test_page_loads_nothing(in_process: Command, logs: Path, package: Path, tmp_path: Path) -> None:
    in_process("monitor", logs / "faint", "--model", package, "--page", "drift.html")

    page = (tmp_path / "drift.html").read_text(encoding="utf-8")
    assert re.search(r"<h1>\d+ of 14 measures drifted</h1>", page)
    assert page.count("<img ") == 14
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page) == []


def test_empty_period(in_process: Command, logs: Path, package: Path, tmp_path: Path) -> None:
    done = in_process("monitor", logs / "same", "--model", package, "--until", "2020-01-01", "--page", "page.html")

    assert done.returncode == 4
    assert "no drift" not in done.stderr
    assert "<h1>Too few rows</h1>" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("log", "options", "message"),
    [
        ("missing", [], "no prediction log here"),
        ("same", ["--since", "yesterday"], "yesterday: not a time"),
        ("same", ["--since", "2026-03-02", "--until", "2026-03-01"], "must be before --until"),
    ],
)
def test_errors(in_process: Command, logs: Path, package: Path, log: str, options: list[str], message: str) -> None:
    done = in_process("monitor", logs / log, "--model", package, *options)

    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
