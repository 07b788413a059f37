"""The benchmarks: what they compute from times, and, in a tiny form, that each runs. No time is asserted."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import growth
import measuring
import repro
import stages
import table
from helpers.workspaces import STAGES
from measuring import Figure, Spread, Times
from speech_emotion.core.errors import UserError

ROWS = {row.name: row for row in table.ROWS}
WRITTEN = {
    "features": {"mfcc", "mfcc psf", "mfcc kaldi", "mfcc opensmile", "tess features"},
    "answering": {"clip", "clip p50", "cold", "cold seconds", "batch"},
    "training": {"train 94", "epoch", "epoch floor"},
    "tuning": {"tuning overhead", "tuning workers"},
    "repro": {"repro nothing", "repro evaluate"},
}


def test_ways_take_turns_and_the_first_round_does_not_count() -> None:
    done: list[str] = []

    times = measuring.interleaved({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, 3)

    assert done == ["a", "b"] * 4
    assert [len(one.seconds) for one in times.values()] == [3, 3]


def test_a_way_made_apart_is_done_in_a_process_of_its_own() -> None:
    with measuring.apart(_makes, "a clip") as one, measuring.apart(_makes, "another") as other:
        first, again, others = one(), one(), other()

    assert first == again
    assert [first[1], others[1]] == ["a clip", "another"]
    assert len({os.getpid(), first[0], others[0]}) == 3


def _makes(what: str) -> Callable[[], tuple[int, str]]:
    return lambda: (os.getpid(), what)


def test_a_ratio_is_that_of_what_was_measured_together() -> None:
    own, peer = Times((1.0, 2.0, 4.0)), Times((3.0, 8.0, 8.0))

    figure = Figure.ratio("mfcc", own, peer)

    assert figure.value == Spread(3.0, 2.0, 4.0)
    assert (figure.own, figure.peer) == (2.0, 8.0)


def test_a_command_is_measured_with_all_that_it_starts() -> None:
    hold = "import time; kept = bytearray(60_000_000); time.sleep(2)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}]); print('done')"

    run = measuring.run("python", "-c", script, watched=True)

    assert run.output == "done\n"
    assert run.peak > 60_000_000


def test_a_command_that_fails_ends_the_benchmark_with_what_it_said() -> None:
    with pytest.raises(UserError, match=r"(?s)ended with status 3.*no such clip"):
        measuring.run("python", "-c", "import sys; print('no such clip'); sys.exit(3)")


def test_without_tess_nothing_begins(tmp_path: Path, root: Path) -> None:
    for named, words in (("", "is not set"), (str(tmp_path / "none"), "names no folder")):
        done = subprocess.run(
            [sys.executable, str(root / "benchmarks" / "all.py"), "--tiny"],
            env={**os.environ, "TESS_DIR": named},
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert f"TESS_DIR {words}" in done.stderr


def test_every_figure_has_a_row_and_every_row_a_script() -> None:
    assert set(ROWS) == set().union(*WRITTEN.values())
    assert len(ROWS) == len(table.ROWS)


def test_what_was_not_measured_is_in_the_table_and_says_why() -> None:
    figures = {"mfcc psf": {"row": "mfcc psf", "value": None, "note": "python_speech_features is not installed"}}

    lines = table.table(figures, {}).splitlines()

    assert len([line for line in lines if line.endswith("| not measured |")]) == len(table.ROWS)
    assert len([line for line in lines if "python_speech_features is not installed" in line]) == 1


@pytest.mark.parametrize(
    ("row", "value", "verdict"),
    [
        ("mfcc", 2.4, "missed"),
        ("mfcc", 2.5, "must"),
        ("mfcc", 4.0, "aim"),
        ("clip p50", 5.1, "missed"),
        ("clip p50", 5.0, "must"),
        ("clip p50", 1.9, "aim"),
        ("cold seconds", 1.2, "below the aim"),
        ("repro evaluate", 1.0, "missed"),
        ("repro evaluate", 0.0, "must"),
        ("mfcc", None, "not measured"),
    ],
)
def test_a_verdict_holds_a_figure_against_its_limits(row: str, value: float | None, verdict: str) -> None:
    assert ROWS[row].verdict(value) == verdict


def test_the_lines_of_growth_tell_a_start_a_slope_and_a_bend() -> None:
    rows = [
        {"stage": stage, "recordings": size, "seconds": 2 + cost * size**power, "peak_mib": 100 + more * size / 1000}
        for stage, cost, power, more in (("featurize", 0.01, 1, 0), ("train", 0.001, 2, 50))
        for size in (100, 400, 1600, 6400)
    ]

    fits = growth.fits(rows)

    assert fits["featurize"]["milliseconds_a_recording"] == pytest.approx(10)
    assert fits["featurize"]["start_seconds"] == pytest.approx(2)
    assert fits["featurize"]["exponent"] <= 1
    assert fits["featurize"]["mib_a_thousand"] == 0
    assert fits["train"]["exponent"] > 1.9
    assert fits["train"]["mib_a_thousand"] == pytest.approx(50)


def test_the_table_of_workers_says_where_a_line_bends() -> None:
    def row(place: str, times: int, seconds: float) -> dict[str, object]:
        size = 100 * times
        return {
            "place": place,
            "times": times,
            "recordings": size,
            "seconds": seconds,
            "a_second": size / seconds,
            "peak_mib": 90.0,
        }

    rows = [row("1 local worker", times, 1 + times) for times in (1, 4, 16)]
    rows += [row("1 Ray node", 1, 2.0), row("1 Ray node", 4, 8.0), row("1 Ray node", 16, 64.0)]

    text = table.scaling({"rows": rows, "machine": {"cpu": "a processor", "cores": 2}})

    assert "| 1 local worker | 2.0 s, 50 a second, 90 MiB | 5.0 s, 80 a second, 90 MiB |" in text
    assert [line.split("|")[-2].strip() for line in text.splitlines() if line.startswith("| 1 ")] == [
        "nowhere",
        "from 400 on",
    ]


def test_text_goes_between_its_marks_and_nothing_else_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.WORKERS[0]}\nold\n{table.WORKERS[1]}\nafter\n")

    for _ in range(2):
        table.write_between(page, table.WORKERS, "new\n")

    assert page.read_text() == f"before\n{table.WORKERS[0]}\nnew\n{table.WORKERS[1]}\nafter\n"


@pytest.mark.parametrize(
    ("page", "marks"),
    [
        ("docs/performance.md", table.SPEED),
        ("docs/scaling.md", table.WORKERS),
        ("docs/performance.md", table.STAGES),
    ],
)
def test_the_pages_that_are_written_into_have_the_marks(root: Path, page: str, marks: tuple[str, str]) -> None:
    text = (root / page).read_text(encoding="utf-8")

    assert [text.count(mark) for mark in marks] == [1, 1]


def test_each_stage_that_dvc_runs_is_measured_with_its_workers(tmp_path: Path) -> None:
    script = tmp_path / "pipeline" / "train.py"
    script.parent.mkdir()
    script.write_text("import time; kept = bytearray(60_000_000); time.sleep(4)")
    (tmp_path / "dvc.yaml").write_text("stages:\n  train:\n    cmd: exec python pipeline/train.py random\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)

    found, status = stages.watch(tmp_path, ["--quiet"])

    assert status == 0
    assert set(found) == {"train"}
    assert found["train"]["seconds"] >= 1
    assert found["train"]["peak_mib"] > 57


def test_the_table_of_stages_has_a_row_each() -> None:
    measured = {
        "corpus": "tess",
        "machine": {"cpu": "a processor", "cores": 2, "load": 1.0},
        "stages": {"featurize": {"seconds": 10.2, "peak_mib": 300.4}},
    }

    assert "| featurize | 10 | 300 |" in table.stages(measured)


def test_a_section_is_needed_by_what_reads_it_and_what_comes_after() -> None:
    needed = repro.dependent(STAGES, "evaluate")

    assert {"evaluate", "package", "report", "publish"} <= needed
    assert not needed & {"download", "prepare", "featurize", "split", "train", "baselines"}


@pytest.mark.slow
@pytest.mark.parametrize("script", ["features", "answering", "training", "tuning", "growth"])
def test_a_benchmark_runs_in_its_tiny_form(script: str, root: Path, tess_dir: Path) -> None:
    result = measuring.results(tiny=True) / f"{script}.json"
    result.unlink(missing_ok=True)

    command = [sys.executable, str(root / "benchmarks" / f"{script}.py"), "--tiny"]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    content = json.loads(result.read_text())
    assert content["machine"]["cores"] >= 1
    if script == "growth":
        assert [row["stage"] for row in content["rows"]] == ["featurize", "split", "train", "evaluate", "predict"]
        assert all(row["peak_mib"] > 10 for row in content["rows"])
        return
    figures = {figure["row"]: figure for figure in content["figures"]}
    assert set(figures) == WRITTEN[script]
    assert all(figure["value"] is not None or "not installed" in figure["note"] for figure in figures.values())
