"""scripts/clone.py creates and updates a clone from any state."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from helpers.workspaces import commit, git


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A small repository with the script, and a dvc.lock of its own."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".scratch").mkdir()
    shutil.copy(root / "scripts" / "clone.py", tmp_path / "scripts")
    (tmp_path / ".gitignore").write_text("/.scratch/\n/.demo/\n__pycache__/\n")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    git("init", "--quiet", at=tmp_path)
    commit(tmp_path)
    return tmp_path


@pytest.fixture
def lock(checkout: Path) -> Path:
    """The clone's dvc.lock, as after a run."""
    renew(checkout)
    lock = checkout / ".demo" / "dvc.lock"
    stages = {name: {"cmd": f"python pipeline/{name}.py", "deps": [{"path": name, "md5": "0" * 32}]} for name in "abc"}
    with open(lock, "w") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)
    return lock


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.62, 0.9])
def test_partial_lock_is_dropped(checkout: Path, lock: Path, share: float) -> None:
    whole = lock.read_text()
    lock.write_text(whole[: int(len(whole) * share)])

    renew(checkout)

    assert not lock.exists()


def renew(checkout: Path) -> None:
    """Renew the clone, as the demo begins."""
    script = "import clone; clone.renew(clone.ROOT / '.demo')"
    subprocess.run([sys.executable, "-c", script], cwd=checkout, env={"PYTHONPATH": "scripts"}, check=True)
