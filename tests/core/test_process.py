"""What a script of a stage says when it is called by hand, and what is not taken for that."""

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

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
        ("pipeline/train.py", ["random"], "train"),
    ],
)
def test_a_script_that_is_called_by_hand_says_how_dvc_calls_it(path: str, arguments: list[str], stage: str) -> None:
    done = call(path, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {path}: it takes other arguments than the {len(arguments)} given. "
        f"DVC knows them: `dvc repro {stage}`.\n"
    )


@pytest.mark.parametrize(
    "work", ["[one] = 'ab'", "pair('abc')", "int('a')", "[][0]", "pair(sys.argv)", "raise ValueError('broken')"]
)
def test_an_error_of_a_stage_keeps_its_traceback(work: str, script: Path) -> None:
    script.write_text(SCRIPT.format(work=work), encoding="utf-8")

    done = call(script, "a", "b")

    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


def test_every_script_is_named_as_its_stage() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]

    assert {path.stem for path in (ROOT / "pipeline").glob("*.py")} == set(stages)
