"""Run every benchmark and write the table: what `make bench` does.

    TESS_DIR=/path/to/tess python benchmarks/all.py [--whole]

If a benchmark fails, its rows stay unmeasured and the last lines name it.
"""

import sys
import time
from pathlib import Path
from typing import Final

import measuring
from speech_emotion.core.errors import UserError

SCRIPTS: Final = ("features", "answering", "training", "tuning", "repro", "growth")
WHOLE: Final = ("training", "growth")
"""Those that run a part and reckon the rest, unless told otherwise."""


def main() -> None:
    """Run all of them."""
    parser = measuring.options(__doc__)
    parser.add_argument(
        "--whole",
        action="store_true",
        help="growth over all of TESS instead of a part, and all epochs of the reference recipe: hours",
    )
    given = parser.parse_args()
    measuring.recordings()
    for name in SCRIPTS:
        (measuring.results(tiny=given.tiny) / f"{name}.json").unlink(missing_ok=True)
    failed = []
    began = time.monotonic()
    for name in SCRIPTS:
        chosen = [*(["--tiny"] if given.tiny else []), *(["--whole"] if given.whole and name in WHOLE else [])]
        print(f"\n== {name} (at {time.monotonic() - began:.0f} s)", flush=True)
        try:
            print(measuring.run("python", str(Path(__file__).with_name(f"{name}.py")), *chosen).output, flush=True)
        except UserError as error:
            print(f"{error}", file=sys.stderr, flush=True)
            failed.append(name)
    chosen = ["--tiny"] if given.tiny else []
    print(measuring.run("python", str(Path(__file__).with_name("table.py")), *chosen).output)
    print(f"all in {(time.monotonic() - began) / 60:.1f} minutes")
    if failed:
        raise UserError(f"not measured, as {', '.join(failed)} failed; the messages are above.")


if __name__ == "__main__":
    measuring.main(main)
