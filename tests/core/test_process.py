"""Stages: arguments, errors, and death with the parent."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

SCRIPT = """\
import sys
from pathlib import Path

from speech_emotion.core.process import run_stage


def pair(words):
    [one, other] = words
    return one, other


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    {work}


run_stage(main)
"""


def call(script: Path | str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "pipeline").mkdir()
    return tmp_path / "pipeline" / "split.py"


@pytest.mark.parametrize(
    ("path", "arguments", "stage"),
    [
        ("pipeline/split.py", [], "split"),
        ("pipeline/split.py", ["manifest.csv", "splits", "more"], "split"),
        ("pipeline/train.py", [], "train"),
        ("pipeline/train.py", ["features"], "train"),
    ],
)
def test_wrong_arguments(path: str, arguments: list[str], stage: str) -> None:
    done = call(path, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {path}: takes other arguments than the {len(arguments)} given. Run `dvc repro {stage}`.\n"
    )


@pytest.mark.parametrize(
    "work", ["[one] = 'ab'", "pair('abc')", "int('a')", "[][0]", "pair(sys.argv)", "raise ValueError('broken')"]
)
def test_other_errors_keep_their_traceback(work: str, script: Path) -> None:
    script.write_text(SCRIPT.format(work=work), encoding="utf-8")

    done = call(script, "a", "b")

    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
@pytest.mark.parametrize("importing", [False, True])
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_stage_dies_with_its_parent(shell: str, importing: bool, tmp_path: Path) -> None:
    """A parent that runs `exec python stage` through a shell, as DVC does, is killed, even during the imports."""
    ready = "print('ready', flush=True)\n"
    begin = f"parent = os.getppid()\n{ready}while os.getppid() == parent: time.sleep(0.01)\n" if importing else ""
    end = "" if importing else ready
    (tmp_path / "stage.py").write_text(
        "import os, time\nfrom speech_emotion.core.process import die_with_parent\n"
        f"{begin}die_with_parent()\n{end}time.sleep(600)\n"
    )
    command = f"exec {sys.executable} {tmp_path / 'stage.py'}"
    program = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen({command!r}, shell=True, executable={shell!r}, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        stage_process = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        _, alive = psutil.wait_procs([stage_process], timeout=30)

    assert alive == []
