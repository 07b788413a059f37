"""scripts/setup.py: what it makes of an environment, beside installing the lock."""

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NAMES = ("MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS", "DO_NOT_TRACK", "ORT_DISABLE_TELEMETRY")


@pytest.fixture(scope="module")
def setup(root: Path) -> dict[str, Any]:
    return runpy.run_path(str(root / "scripts" / "setup.py"))


@pytest.fixture(scope="module")
def python(setup: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment, in which nothing is installed."""
    venv = tmp_path_factory.mktemp("setup") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    setup["hush"](venv)
    return venv / "bin" / "python"


def seen(python: Path, environment: dict[str, str]) -> list[str]:
    script = f"import os; print(*[os.environ[name] for name in {NAMES}], sep=chr(10))"
    done = subprocess.run([python, "-c", script], env=environment, check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_a_command_of_the_environment_is_quiet_without_make(python: Path) -> None:
    assert seen(python, {}) == ["true", "1", "true", "1"]


def test_what_the_user_has_set_stays(python: Path) -> None:
    assert seen(python, {"MLFLOW_DISABLE_TELEMETRY": "false"}) == ["false", "1", "true", "1"]
