import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.recordings import encoded, tone
from helpers.terminal import Command, terminal
from helpers.tiny_package import make_package


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["predict"], ["predict", "a.wav", "--format", "xml"], ["evaluate", "model"]]
)
def test_wrong_usage_is_status_2(in_process: Command, arguments: list[str]) -> None:
    done = in_process(*arguments)

    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [("nowhere", "a", "nowhere: no model package found"), (".", "a" * 300, f"{'a' * 300}.wav: File name too long")],
)
def test_error_is_one_line(in_process: Command, tmp_path: Path, model: str, name: str, message: str) -> None:
    make_package(tmp_path)

    done = in_process("predict", f"{name}.wav", "--model", model)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["predict", "a.wav"], ["serve"], ["monitor", "log"], ["app"], ["listen"]])
def test_empty_model_is_refused(in_process: Command, tmp_path: Path, arguments: list[str]) -> None:
    make_package(tmp_path)

    done = in_process(*arguments, "--model", "")

    assert done.returncode == 1
    assert done.stderr.startswith("error: --model is empty. Give a package folder")


def test_params_of_another_program_are_ignored(in_process: Command, clips: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("learning_rate: 0.1\n")

    served = in_process("serve", "--port", "0", "--model", "nowhere")
    logged = in_process("predict", clips / "a.wav", "--model", model, "--log", "log")

    assert served.stderr.startswith("error: nowhere: no model package found")
    assert (logged.returncode, logged.stderr) == (0, "")


def test_missing_extra_is_named(command: Command, model: Path, tmp_path: Path) -> None:
    # a finder in front of all others, as on a machine without the extra
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'sklearn':\n"
        "            raise ModuleNotFoundError(\"No module named 'sklearn'\", name='sklearn')\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    for label in ("sad", "happy"):
        (tmp_path / "own" / label).mkdir(parents=True)
        (tmp_path / "own" / label / "a.wav").write_bytes(encoded(tone()))

    done = command("evaluate", model, "--on", "own", PYTHONPATH=str(tmp_path))

    assert done.returncode == 1
    assert done.stderr == (
        "error: this command needs the package 'sklearn', which is not installed: "
        "`make setup` in the checkout, or pip install '.[pipeline]' there\n"
    )


@pytest.fixture
def predicting(model: Path, tmp_path: Path) -> subprocess.Popen[str]:
    """`predict` on many recordings, after its first prediction."""
    for number in range(1500):
        (tmp_path / f"{number}.wav").write_bytes(encoded(tone(0.3)))
    command = [sys.executable, "-m", "speech_emotion", "predict", str(tmp_path), "--model", str(model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(2):  # the first line is the header
        process.stdout.readline()
    return process


def test_ctrl_c_is_status_130(predicting: subprocess.Popen[str]) -> None:
    predicting.send_signal(signal.SIGINT)
    _, errors = predicting.communicate(timeout=20)

    assert predicting.returncode == 130
    assert "Traceback" not in errors


def test_closed_pipe_is_no_error(predicting: subprocess.Popen[str]) -> None:
    assert predicting.stdout is not None
    assert predicting.stderr is not None

    predicting.stdout.close()

    assert predicting.stderr.read() == ""
    assert predicting.wait(60) == 141


def test_help_imports_no_libraries() -> None:
    run = "import sys\nfrom speech_emotion.cli import app\ntry: app(['--help'])\nexcept SystemExit: print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True)

    loaded = set(done.stdout.split())
    assert not loaded & {"numpy", "soundfile", "onnxruntime", "mlflow", "pandas", "sklearn", "tensorflow", "pydantic"}


def test_terminal_gets_a_table(model: Path, clips: Path) -> None:
    with terminal("-m", "speech_emotion", "predict", str(clips / "a.wav"), "--model", str(model)) as started:
        shown = started.read()

    assert all(text in shown for text in ("recording", "confidence", "│"))
