"""`make clean` removes only what can be recreated."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MADE_AGAIN = (
    ".demo/data/demo/raw/a.wav",
    ".scratch/train/abc/checkpoint",
    ".pytest_cache/a",
    ".mypy_cache/a",
    ".ruff_cache/a",
    "dvc_plots/index.html",
    "src/speech_emotion/__pycache__/a.pyc",
)
KEPT = (
    ".venv/bin/python",
    ".dvc/cache/files/a",
    "data/tess/raw/a.wav",
    "models/tess/package/package.json",
    "reports/tess/a.md",
    "mlruns/1/a",
    "mlflow.db",
    "src/speech_emotion/a.py",
)


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A checkout in which everything was made once, each file of a thousand bytes."""
    for name in (*MADE_AGAIN, *KEPT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0" * 1000)
    (tmp_path / "scripts").mkdir()
    shutil.copy(root / "scripts" / "clean.py", tmp_path / "scripts")
    return tmp_path


def clean(checkout: Path) -> list[str]:
    command = [sys.executable, str(checkout / "scripts" / "clean.py")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_removes_only_what_can_be_recreated(checkout: Path) -> None:
    lines = clean(checkout)

    assert [name for name in MADE_AGAIN if (checkout / name).exists()] == []
    assert [name for name in KEPT if not (checkout / name).exists()] == []
    assert {line.split("/  ")[0] for line in lines[:-1]} == {
        ".demo",
        ".scratch/train",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        "dvc_plots",
    }
    assert lines[-1].startswith("freed 0.0 MB. Kept: ")


def test_prints_the_freed_space(checkout: Path) -> None:
    (checkout / ".demo" / "large").write_bytes(b"0" * 1_500_000)

    assert ".demo/  1.5 MB" in clean(checkout)
    assert clean(checkout) == ["freed 0.0 MB. Kept: .venv, data, models, reports, the DVC cache, mlflow.db and mlruns."]
