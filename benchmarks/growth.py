"""Time and peak memory of the stages as the corpus grows to 64 times its size, and on three corpora together.

    TESS_DIR=/path/to/tess python benchmarks/growth.py            # 42 recordings, 1, 8 and 64 times
    TESS_DIR=/path/to/tess python benchmarks/growth.py --whole    # all 2,800 recordings: hours, and 60 GB of disk

With RAVDESS_DIR and CREMA_D_DIR, a part and all of the 11,483 recordings of the three corpora are measured too.

Each stage is a process of its own, as in DVC: featurize (without copies), split, train (one epoch of a small network),
evaluate (with few resamples, and robustness on few utterances), and `speech-emotion predict` over all recordings.
"""

from collections.abc import Callable
from typing import Any, Final

import measuring
import workspace
from measuring import Run

SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "augment": {"copies": 0},
    "split": {"protocols": ["random", "full"]},
    "evaluate": {"bootstrap": {"resamples": 200, "seed": 7}},
    "robustness": {"utterances": 42},
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
    parser = measuring.options(__doc__)
    parser.add_argument("--whole", action="store_true", help="all of TESS instead of 42 recordings")
    given = parser.parse_args()
    tess, mix = workspace.tess(), workspace.mix()
    sizes = [("TESS", tess if given.whole else tess.cut(42), times) for times in ((1,) if given.tiny else (1, 8, 64))]
    if mix and not given.tiny:
        sizes += [("three corpora", mix.cut(3000), 1), ("three corpora", mix, 1)]
    rows = []
    for name, corpus, times in sizes:
        with workspace.made_of(corpus, times) as made:
            made.set(SETTINGS)
            for stage, run in _stages(made).items():
                done, recordings = run(), times * len(corpus.rows)
                row = {"corpus": name, "recordings": recordings, "stage": stage, "seconds": round(done.seconds, 2)}
                rows.append(row | {"peak_mib": round(done.peak / 2**20, 1)})
                print("{recordings} of {corpus}: {stage} {seconds} s, {peak_mib} MiB".format(**rows[-1]), flush=True)
    measuring.write("growth", {"rows": rows}, tiny=given.tiny)


def _stages(made: workspace.Workspace) -> dict[str, Callable[[], Run]]:
    """Return the stages of a workspace, in their order."""
    evaluated = ("raw", "features", "splits", "models", "reports", "audio_stats.csv")
    predict = ("predict", "raw", "--output", "predictions.csv")
    return {
        "featurize": lambda: made.featurize(watched=True),
        "split": lambda: made.stage("split", str(made.manifest), "splits", watched=True),
        "train": lambda: made.stage("train", "features", "splits", "models", watched=True),
        "evaluate": lambda: made.stage("evaluate", *evaluated, watched=True),
        "predict": lambda: measuring.run("speech-emotion", *predict, folder=made.folder, watched=True),
    }


if __name__ == "__main__":
    measuring.main(main)
