"""The benchmarks: what they compute from times, and that each runs in its tiny form. No time is asserted."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

import measuring
import table
from measuring import Figure

ROWS = {row.name: row for row in table.ROWS}
WRITTEN = {
    "features": {"mfcc"},
    "answering": {"clip", "clip ratio", "cold", "batch", "batch ratio", "serve"},
    "training": {"training", "epoch"},
    "repro": {"repro", "repro nothing", "demo"},
}


def test_table_has_a_row_per_figure() -> None:
    assert len(ROWS) == len(table.ROWS)
    assert set(ROWS) == set(table.RECORDED).union(*WRITTEN.values())
    assert set(WRITTEN) | {"growth"} == set(table.SCRIPTS)


def test_table_has_a_verdict_per_row() -> None:
    machine = {"cpu": "a", "cores": 2, "memory_gib": 8, "system": "Linux", "python": "3.11", "versions": {"numpy": "2"}}
    values = {"demo": 61.0, "mfcc": 2.5, "clip": 1.5}
    figures = [asdict(Figure.of(row, [value])) for row, value in values.items()]
    stages = {"split": {"seconds": 2.2, "peak_mib": 90}}

    lines = table.table({"repro": {"machine": machine, "figures": figures, "stages": stages}}).splitlines()

    verdicts = [line.split(" | ")[-1].removesuffix(" |") for line in lines[2 : 2 + len(ROWS)]]
    expected = {"demo": "missed", "mfcc": "meets must", "clip": "meets aim"}
    assert verdicts == [expected.get(row, "not measured") for row in ROWS]
    assert "| split | 2 | 90 |" in lines


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
