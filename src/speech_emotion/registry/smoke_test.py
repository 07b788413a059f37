"""Test that a registered model answers its own example in a clean process, and measure how fast.

Run as a script in an isolated interpreter, this file imports only the code that was registered with the model.
"""

import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SECONDS: Final = 120
_REPEATS: Final = 21
_INHERITED: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")


@dataclass(frozen=True)
class SmokeTest:
    """The label predicted for the example and the median milliseconds of an answer, or the error."""

    label: str = ""
    milliseconds: float | None = None
    error: str = ""


def smoke_test(model: Path) -> SmokeTest:
    """Load a model from its MLflow folder and predict its example.

    This executes the code that was registered with the model, as the user. The process has no environment variables
    beside those in `_INHERITED`, so no credentials, and works in an empty folder.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # isolated: neither PYTHONPATH nor the working folder is searched
    command = [sys.executable, "-I", __file__, str(model)]
    with tempfile.TemporaryDirectory() as home:
        environment = {**inherited, "HOME": home}
        try:
            done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            return SmokeTest(error=f"no answer within {_SECONDS} s")
    if done.returncode != 0:
        return SmokeTest(error=(done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:200])
    # a library may have printed before
    return SmokeTest(*json.loads(done.stdout.splitlines()[-1]))


def main(model: Path) -> None:
    """Predict once to warm up, then `_REPEATS` times against the clock."""
    sys.path.insert(0, str(model / "code"))
    import speech_emotion

    if not Path(speech_emotion.__file__).is_relative_to(model):
        raise ImportError(f"imported {speech_emotion.__file__}, not the code that was registered with the model")
    example = json.loads((model / "serving_input_example.json").read_text(encoding="utf-8"))
    audio = base64.b64decode(example["dataframe_split"]["data"][0][0])
    recognizer = speech_emotion.Recognizer.load(model / "artifacts" / "package")
    label = recognizer.predict(audio).label
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        recognizer.predict(audio)
        seconds.append(time.perf_counter() - start)
    print(json.dumps([label, 1000 * statistics.median(seconds)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
