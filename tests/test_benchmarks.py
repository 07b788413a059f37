"""The benchmarks: what they compute from times, and that each runs in its tiny form. No time is asserted."""

import json
import os
import subprocess
import sys
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


def test_memory_includes_children() -> None:
    hold = "import time; kept = bytearray(60_000_000); time.sleep(2)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}]); print('done')"

    run = measuring.run("python", "-c", script, watched=True)

    assert run.output == "done\n"
    assert run.peak > 60_000_000


@pytest.mark.parametrize(("folder", "message"), [("", "is not set"), ("/nowhere", "is not a folder")])
def test_missing_tess_is_one_message(root: Path, folder: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, str(root / "benchmarks" / "table.py"), "--tiny"],
        env={**os.environ, "TESS_DIR": folder},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_table_has_a_row_per_figure() -> None:
    assert len(ROWS) == len(table.ROWS)
    assert set(ROWS) == set().union(*WRITTEN.values())
    assert set(WRITTEN) | {"growth"} == set(table.SCRIPTS)


@pytest.mark.parametrize(
    ("row", "value", "verdict"),
    [
        ("mfcc", 2.4, "missed"),
        ("mfcc", 2.5, "meets must"),
        ("mfcc", 4.0, "meets aim"),
        ("clip", 2.3, "missed"),
        ("clip", 2.2, "meets must"),
        ("clip", 1.5, "meets aim"),
        ("batch", 749, "missed"),
        ("serve", 9, "meets must"),
        ("mfcc", None, "not measured"),
    ],
)
def test_verdict(row: str, value: float | None, verdict: str) -> None:
    assert ROWS[row].verdict(value) == verdict


def test_table_shows_unmeasured_rows_and_stages(tmp_path: Path) -> None:
    measuring.write_figures(
        "repro", [Figure.of("demo", [55.0])], tiny=True, stages={"split": {"seconds": 2.2, "peak_mib": 90}}
    )
    results = {"repro": json.loads((measuring.results(tiny=True) / "repro.json").read_text())}

    lines = table.table(results).splitlines()

    assert sum(line.endswith("| not measured |") for line in lines) == len(table.ROWS) - 1
    assert any("55 s" in line and line.endswith("| meets must |") for line in lines)
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
