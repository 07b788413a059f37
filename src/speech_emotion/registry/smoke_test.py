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
from pathlib import Path
from typing import Final

_SECONDS: Final = 120
_REPEATS: Final = 21
_INHERITED: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")


def smoke_test(model: Path) -> tuple[str, float | None, str]:
    """Return the label that a model in an MLflow folder predicts for its example, the milliseconds, and an error.

    This executes the code that was registered with the model, as the user, in an empty folder and without environment
    variables beside those in `_INHERITED`, so without credentials.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # isolated: neither PYTHONPATH nor the working folder is searched
    command = [sys.executable, "-I", __file__, str(model)]
    with tempfile.TemporaryDirectory() as home:
        environment = {**inherited, "HOME": home}
        try:
            done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            return "", None, f"no answer within {_SECONDS} s"
    if done.returncode != 0:
        return "", None, (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:200]
    # a library may have printed before
    label, milliseconds = json.loads(done.stdout.splitlines()[-1])
    return label, milliseconds, ""


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
