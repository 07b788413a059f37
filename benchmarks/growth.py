"""Time and peak memory of the stages as the corpus grows.

    TESS_DIR=/path/to/tess python benchmarks/growth.py            # 35 recordings, 1, 4, 16 and 64 times
    TESS_DIR=/path/to/tess python benchmarks/growth.py --whole    # all 2,800 recordings: hours, and 60 GB of disk

Each stage is a process of its own, as in DVC: featurize (without copies), split, train (one epoch of a small network),
evaluate, and `speech-emotion predict` over all recordings.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

import measuring
import workspace
from measuring import Run

RECORDINGS: Final = 35
TIMES: Final = (1, 4, 16, 64)
LIMIT: Final = 2**30
"""Bytes that featurize and predict may hold, however many recordings there are."""

SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "augment": {"copies": 0},
    "split": {"protocols": ["random", "full"]},
    "train": {
        "epochs": 1,
        "network": {
            "input": "frames",
            "lstm": [16],
            "bidirectional": False,
            "lstm_relu": False,
            "pooling": "mean",
            "dense": [],
            "batch_norm": False,
            "dropout": {"lstm": 0.0, "dense": 0.0},
        },
    },
}


def main() -> None:
    """Measure, and write results/growth.json."""
    corpus, sizes, tiny = workspace.growing(__doc__, RECORDINGS, TIMES)
    rows = []
    for times in sizes:
        with workspace.made_of(corpus, times) as made:
            made.set(SETTINGS)
            recordings = times * len(corpus.rows)
            for stage, run in _stages(made).items():
                done = run()
                print(f"{recordings} recordings: {stage} {done.seconds:.1f} s, {done.peak / 2**20:.0f} MiB", flush=True)
                rows.append(
                    {
                        "recordings": recordings,
                        "times": times,
                        "stage": stage,
                        "seconds": round(done.seconds, 3),
                        "peak_mib": round(done.peak / 2**20, 1),
                    }
                )
    measuring.write("growth", {"rows": rows, "fits": fits(rows)}, tiny=tiny)


def _stages(made: workspace.Workspace) -> dict[str, Callable[[], Run]]:
    """Return the stages of a workspace, in their order."""
    return {
        "featurize": lambda: made.featurize(watched=True),
        "split": lambda: made.stage("split", str(made.manifest), "splits", watched=True),
        "train": lambda: made.stage("train", "features", "splits", "models", watched=True),
        "evaluate": lambda: made.stage(
            "evaluate", "raw", "features", "splits", "models", "reports", "audio_stats.csv", watched=True
        ),
        "predict": lambda: measuring.run(
            "speech-emotion", "predict", "raw", "--output", "answers.csv", folder=made.folder, watched=True
        ),
    }


def fits(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return, by stage, the straight line that its times come closest to, and what memory grows by.

    `exponent` is that of the power of the corpus by which the time grew between the two largest sizes: 1 is linear,
    less is still a start that weighs, more is a bend.
    """
    found = {}
    for stage in dict.fromkeys(str(row["stage"]) for row in rows):
        own = [row for row in rows if row["stage"] == stage]
        sizes, seconds, peaks = (np.array([row[key] for row in own]) for key in ("recordings", "seconds", "peak_mib"))
        if len(own) < 2:
            continue
        slope, start = np.polyfit(sizes, seconds, 1)
        found[stage] = {
            "start_seconds": round(float(start), 3),
            "milliseconds_a_recording": round(1000 * float(slope), 4),
            "exponent": round(float(np.log(seconds[-1] / seconds[-2]) / np.log(sizes[-1] / sizes[-2])), 3),
            "mib_a_thousand": round(float(1000 * (peaks[-1] - peaks[-2]) / (sizes[-1] - sizes[-2])), 2),
        }
    return found


if __name__ == "__main__":
    measuring.main(main)
