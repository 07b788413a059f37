"""Takes a registered model's files; gives whether it answers its own example in a clean process, and how fast."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SECONDS: Final = 120
"""That loading and answering may take in all."""


@dataclass(frozen=True)
class Rehearsal:
    """What came of it.

    Attributes
    ----------
    label : str
        What was heard in the example; empty where it was not answered.
    milliseconds : float or None
        The median over some twenty answers, decoding included.
    trouble : str
        Why it was not answered.
    """

    label: str
    milliseconds: float | None
    trouble: str = ""


def rehearse(model: Path) -> Rehearsal:
    """Load a model in an interpreter that knows nothing of this one, and have it answer its example.

    Parameters
    ----------
    model : Path
        The folder of a registered model, as MLflow keeps it.
    """
    script = Path(__file__).with_name("smoke_test_script.py")
    try:
        done = subprocess.run(
            # isolated: neither PYTHONPATH nor the working folder is searched
            [sys.executable, "-I", str(script), str(model)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Rehearsal("", None, f"no answer within {SECONDS} s")
    if done.returncode != 0:
        return Rehearsal("", None, (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:200])
    # a library may have printed before
    answer = json.loads(done.stdout.splitlines()[-1])
    return Rehearsal(answer["label"], answer["milliseconds"])
