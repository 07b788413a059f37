"""Throughput and memory of feature extraction by number of workers and recordings.

    TESS_DIR=/path/to/tess python benchmarks/workers.py            # 140 recordings, 1, 4 and 16 times
    TESS_DIR=/path/to/tess python benchmarks/workers.py --whole    # all 2,800 recordings

One and two local workers, and one and two Ray nodes of one core each on this machine. Memory is that of all processes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

import psutil

import measuring
import workspace
from measuring import Run

RECORDINGS: Final = 140
TIMES: Final = (1, 4, 16)
PLACES: Final = {
    "1 local worker": ("local", 1),
    "2 local workers": ("local", 2),
    "1 Ray node": ("ray", 1),
    "2 Ray nodes": ("ray", 2),
}


def main() -> None:
    """Measure, and write results/workers.json."""
    corpus, sizes, tiny = workspace.growing(__doc__, RECORDINGS, TIMES)
    rows = []
    for place, (backend, count) in PLACES.items():
        if backend == "ray" and find_spec("ray") is None:
            continue
        with _nodes(count if backend == "ray" else 0) as (address, own):
            for times in sizes:
                rows.append(_row(place, corpus, times, _compute(backend, count, address), own))
                print(
                    "{place}: {recordings} recordings, {seconds:.1f} s, {peak_mib:.0f} MiB".format(**rows[-1]),
                    flush=True,
                )
    measuring.write("workers", {"rows": rows}, tiny=tiny)


def _compute(backend: str, count: int, address: str) -> dict[str, Any]:
    return {
        "backend": backend,
        "workers": count if backend == "local" else None,
        "ray": {"address": address, "cpus": 1.0, "gpus": 0.0},
    }


def _row(place: str, corpus: workspace.Corpus, times: int, compute: dict[str, Any], held: int) -> dict[str, Any]:
    with workspace.made_of(corpus, times) as made:
        made.set({"augment": {"copies": 0}, "compute": compute})
        run: Run = made.featurize(watched=True)
    recordings = times * len(corpus.rows)
    return {
        "place": place,
        "recordings": recordings,
        "times": times,
        "seconds": round(run.seconds, 3),
        "a_second": round(recordings / run.seconds, 1),
        "peak_mib": round((run.peak + held) / 2**20, 1),
    }


@contextmanager
def _nodes(count: int) -> Iterator[tuple[str, int]]:
    """Give the address of a cluster of nodes of one core each, and the bytes that it holds while nobody asks it."""
    if not count:
        yield "auto", 0
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    before = measuring.memory(psutil.Process())
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(count - 1):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address, max(0, measuring.memory(psutil.Process()) - before)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    measuring.main(main)
