"""The jobs of docs/promotion.md, run as they are written there: a bare clone of what was pushed, and nothing else."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML

from helpers import released
from helpers.workspaces import DemoRun, Workspace, commit, git
from speech_emotion.config.registry import ProtocolGates

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODEL = "speech-emotion-demo"


def test_pull_request_and_merge(demo_run: DemoRun, root: Path, tmp_path: Path) -> None:
    pull_request, merged = jobs(root / "docs" / "promotion.md")
    author, shared = demo_run.copy(tmp_path / "author"), tmp_path / "shared.git"
    author.run("dvc", "remote", "add", "--default", "team", str(tmp_path / "remote"))
    author.run("dvc", "push")

    def clone() -> Workspace:
        commit(author.folder)
        subprocess.run(["git", "clone", "--quiet", "--bare", author.folder, shared], check=True)
        folder = tmp_path / f"job {len(list(tmp_path.glob('job *')))}"
        subprocess.run(["git", "clone", "--quiet", shared, folder], check=True)
        shared.rename(f"{folder}.git")
        return replace(author, folder=folder)

    # more than the tests' demo knows
    ask_for(author, uar=0.99)
    refused = run_job(clone(), pull_request)
    assert refused.returncode == 1, refused.stdout
    assert "failed: random.uar: " in refused.stdout
    assert champion(author) is None

    ask_for(author, uar=0.0)
    agent = clone()
    passed = run_job(agent, pull_request)
    assert passed.returncode == 0, passed.stdout
    assert "(dry run)" in passed.stdout
    assert len(re.findall(r"^head\..*\tpassed", passed.stdout, re.MULTILINE)) == 3
    assert champion(author) is None

    assert run_job(agent, merged).returncode == 0
    assert champion(author) == 1
    assert f"merged in {git('rev-parse', 'HEAD', at=author.folder).strip()}" in author.run("speech-emotion", "history")


def jobs(page: Path) -> list[str]:
    """Return the scripts of the page's section on continuous integration."""
    section = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[-1]
    assert section.startswith("Continuous integration")
    blocks = re.findall(r"(?:^    .*\n)+", section, flags=re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


def run_job(clone: Workspace, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a script in a clone as a CI system does: the first command that fails ends it."""
    head = git("rev-parse", "HEAD", at=clone.folder).strip()
    # the library that is tried is the clone's own, and nothing is known but the tracking server
    environment = {**clone.environment, "PYTHONPATH": str(clone.folder / "src"), "COMMIT": head, "CI": "true"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=clone.folder,
        env={**os.environ, **environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def ask_for(workspace: Workspace, *, uar: float) -> None:
    limits = {"random": ProtocolGates(uar=uar, ece=None, recall=None, drop=None)}
    params = YAML()
    values = params.load(workspace.folder / "params.yaml")
    values["promote"] = released.gates(head=True, protocols=limits, corpus="demo").model_dump(mode="json")
    params.dump(values, workspace.folder / "params.yaml")


def champion(workspace: Workspace) -> str | None:
    client = MlflowClient(workspace.environment["MLFLOW_TRACKING_URI"])
    return client.get_registered_model(MODEL).aliases.get("champion")
