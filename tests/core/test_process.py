"""Stages: errors, and death with the parent."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest


@pytest.mark.parametrize(
    ("work", "message"),
    [
        ("raise UserError('http://me:secret@host is down')", "error: http://***@host is down"),
        ("raise OSError(28, 'No space left on device', 'x')", "error: x: No space left on device. Make room"),
        ("raise OSError(28, 'No space left on device')", "error: No space left on device. Make room"),
        ("raise ValueError('http://me:secret@host')", "Traceback"),
        ("open('missing')", "Traceback"),
    ],
)
def test_only_mistakes_of_ours_have_a_traceback(work: str, message: str) -> None:
    program = (
        "from speech_emotion.core.errors import UserError; from speech_emotion.core.process import run_stage\n"
        f"def main(): {work}\n"
        "run_stage(main)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(message)
    assert "secret" not in done.stderr


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
