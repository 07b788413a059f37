"""The benchmarks: what they compute from times, and that each runs in its tiny form. No time is asserted."""

import json
from pathlib import Path

import pytest

import measuring

WRITTEN = {
    "features": {"mfcc"},
    "answering": {"clip", "clip ratio", "cold", "batch", "batch ratio", "serve"},
    "training": {"training", "epoch"},
    "repro": {"repro", "repro nothing", "demo"},
}


@pytest.mark.slow
@pytest.mark.parametrize("script", ["features", "answering", "training", "growth"])
def test_benchmark_runs(script: str, root: Path, tess_dir: Path) -> None:
    result = measuring.results(tiny=True) / f"{script}.json"
    result.unlink(missing_ok=True)

    measuring.run("python", str(root / "benchmarks" / f"{script}.py"), "--tiny")

    content = json.loads(result.read_text())
    if script == "growth":
        assert [row["stage"] for row in content["rows"]] == ["featurize", "split", "train", "evaluate", "predict"]
        assert all(row["peak_mib"] > 10 for row in content["rows"])
    else:
        assert {figure["row"] for figure in content["figures"] if figure["median"] is not None} == WRITTEN[script]
