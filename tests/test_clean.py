"""`make clean` removes only what can be recreated."""

import shutil
import subprocess
import sys
from pathlib import Path

MADE_AGAIN = (
    ".demo/data/demo/raw/a.wav",
    ".scratch/train/abc/checkpoint",
    *(f".{name}_cache/a" for name in ("pytest", "mypy", "ruff")),
    "dvc_plots/index.html",
    "src/speech_emotion/__pycache__/a.pyc",
)
KEPT = (
    ".venv/bin/python",
    ".dvc/cache/files/a",
    ".voices/data/a.wav",
    *(f"{name}/tess/a" for name in ("data", "models", "reports")),
    "mlruns/1/a",
    "mlflow.db",
    "src/speech_emotion/a.py",
)


def clean(checkout: Path) -> list[str]:
    command = [sys.executable, str(checkout / "scripts" / "clean.py")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_removes_only_what_can_be_recreated(root: Path, tmp_path: Path) -> None:
    for name in (*MADE_AGAIN, *KEPT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0" * 100_000)
    (tmp_path / "scripts").mkdir()
    shutil.copy(root / "scripts" / "clean.py", tmp_path / "scripts")

    lines = clean(tmp_path)

    assert [name for name in MADE_AGAIN if (tmp_path / name).exists()] == []
    assert [name for name in KEPT if not (tmp_path / name).exists()] == []
    assert ".demo/  0.1 MB" in lines
    assert lines[-1].startswith("freed 0.7 MB. Kept: ")
    assert clean(tmp_path) == [lines[-1].replace("0.7", "0.0")]
