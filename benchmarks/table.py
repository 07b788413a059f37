"""Run every benchmark and write the table in docs/performance.md: what `make bench` does.

    TESS_DIR=/path/to/tess python benchmarks/table.py
    python benchmarks/table.py --no-run             # only write the table of the results at hand
    python benchmarks/table.py --record test 113    # the same, with a figure of RECORDED that you measured

A benchmark that fails leaves its rows unmeasured.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import measuring
from measuring import Figure
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import write_text

SCRIPTS: Final = ("features", "answering", "training", "growth", "repro")
PAGE: Final = measuring.ROOT / "docs" / "performance.md"
MARKS: Final = ("<!-- results: begin. `make bench` writes this. -->", "<!-- results: end -->")


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes
    ----------
    name : str
        That of its `measuring.Figure`.
    work, peer : str
    unit : str
        "times" means that more is better; of other units, less is, except for rates ("per second").
    must, aim : float or None
    """

    name: str
    work: str
    peer: str
    unit: str
    must: float
    aim: float | None = None

    @property
    def more_is_better(self) -> bool:
        """Whether a higher figure is better."""
        return self.unit in ("times", "per second")

    def verdict(self, value: float | None) -> str:
        """Return "meets aim", "meets must", "missed" or "not measured"."""
        if value is None:
            return "not measured"
        if not self._holds(value, self.must):
            return "missed"
        return "meets aim" if self.aim is not None and self._holds(value, self.aim) else "meets must"

    def limit(self, limit: float | None) -> str:
        """Return a limit in words."""
        return "" if limit is None else f"{'≥' if self.more_is_better else '≤'} {limit:g} {self.unit}"

    def _holds(self, value: float, limit: float) -> bool:
        return value >= limit if self.more_is_better else value <= limit


ROWS: Final = (
    Row("repro", "`dvc repro` of TESS, empty cache, to the registered version", "", "min", 12, 7),
    Row("repro nothing", "`dvc repro`, nothing changed", "", "s", 10, 5),
    Row("demo", "`make demo` after installation", "", "s", 60),
    Row("training", "training per 20 ms of audio, one core", "", "µs", 16.3, 12.4),
    Row("epoch", "one epoch, LSTM 128 + 128, equal accuracy", "`model.fit`, zero-padded, batch 32", "times", 3, 5),
    Row("mfcc", "WAV to 40 MFCCs, one core, warm", "librosa", "times", 2.5, 4),
    Row("clip", "one clip, bytes to prediction, warm, one core", "", "ms", 2.2, 1.5),
    Row("clip ratio", "the same", "librosa, `model.predict`", "times", 20),
    Row("batch", "2,800 recordings predicted, whole process", "", "per second", 750, 1000),
    Row("batch ratio", "the same", "a loop over librosa, `model.predict`", "times", 40),
    Row("cold", "cold `speech-emotion predict one.wav`", "", "s", 0.3, 0.2),
    Row("serve", "`speech-emotion serve`, 64 clients", "`mlflow models serve`", "times", 5),
    Row("mix", "features of TESS, RAVDESS and CREMA-D, with six augmented copies, to disk", "", "min", 3, 2),
    Row("voices", "the model of these three, from the recordings to the package", "", "min", 100, 60),
    Row("test", "`make test`", "", "s", 120),
    Row("ci", "`.ci/run`", "", "min", 15),
)

RECORDED: Final = ("mix", "voices", "test", "ci")
"""Rows that take longer than `make bench` may: measure them by hand, and write them with `--record`."""


def main() -> None:
    """Run, draw and write."""
    parser = measuring.options(__doc__)
    parser.add_argument("--no-run", action="store_true", help="only write the table of the results at hand")
    parser.add_argument("--record", nargs=2, metavar=("ROW", "VALUE"), help=f"one of {', '.join(RECORDED)}")
    given = parser.parse_args()
    if given.record:
        _record(given.record[0], float(given.record[1]))
    failed = [] if given.no_run or given.record else _run_all(tiny=given.tiny)
    folder = measuring.results(tiny=given.tiny)
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
    text = table(results)
    print(text)
    if "growth" in results:
        draw_growth(results["growth"]["rows"], folder / "growth.png")
    if not given.tiny:
        write_between(PAGE, text)
    if failed:
        raise UserError(f"{', '.join(failed)} failed; see above")


def _record(row: str, value: float) -> None:
    """Write a figure that was measured by hand to results/ROW.json."""
    if row not in RECORDED:
        raise UserError(f"{row}: is not one of {', '.join(RECORDED)}")
    measuring.write_figures(row, [Figure.of(row, [value])], tiny=False)


def _run_all(*, tiny: bool) -> list[str]:
    """Run the scripts; return those that failed."""
    measuring.recordings()
    failed, began = [], time.monotonic()
    for name in SCRIPTS:
        (measuring.results(tiny=tiny) / f"{name}.json").unlink(missing_ok=True)
        print(f"\n== {name} (at {time.monotonic() - began:.0f} s)", flush=True)
        script = str(Path(__file__).with_name(f"{name}.py"))
        try:
            print(measuring.run("python", script, *(["--tiny"] if tiny else [])).output, flush=True)
        except UserError as error:
            print(error, file=sys.stderr, flush=True)
            failed.append(name)
    print(f"all in {(time.monotonic() - began) / 60:.1f} minutes")
    return failed


def table(results: Mapping[str, Any]) -> str:
    """Return all rows, the stages and the machines in Markdown."""
    found = {figure["row"]: figure for one in results.values() for figure in one.get("figures", [])}
    lines = [
        "| work | compared with | must | aim | measured (lowest to highest) | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        figure = found.get(row.name, {})
        value = figure.get("median")
        cells = [row.work, row.peer or "-", row.limit(row.must), row.limit(row.aim) or "-", _measured(row, figure)]
        lines.append(f"| {' | '.join(cells)} | {row.verdict(value)} |")
    if stages := results.get("repro", {}).get("stages"):
        lines += ["", "| stage of `dvc repro` | seconds | peak memory (MiB) |", "|---|---|---|"]
        lines += [f"| {name} | {row['seconds']:.0f} | {row['peak_mib']:.0f} |" for name, row in stages.items()]
    machines = {_machine(one["machine"]): None for one in results.values()}
    return "\n".join([*lines, "", *(f"Measured on {machine}." for machine in machines)]) + "\n"


def _measured(row: Row, figure: Mapping[str, Any]) -> str:
    note = figure.get("note", "")
    if figure.get("median") is None:
        return note or "not measured"
    low, middle, high = (f"{figure[key]:.3g}" for key in ("low", "median", "high"))
    spread = "" if low == high else f" ({low} to {high})"
    return f"{middle} {row.unit}{spread}" + (note and f"; {note}")


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}, {versions}"
    )


def draw_growth(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw time and peak memory of each stage by the number of recordings."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10, 4), layout="constrained")
    left, right = canvas.subplots(1, 2)
    for number, stage in enumerate(dict.fromkeys(row["stage"] for row in rows)):
        for corpus, style in (("TESS", "-"), ("three corpora", "--")):
            own = [row for row in rows if (row["stage"], row["corpus"]) == (stage, corpus)]
            sizes = [row["recordings"] for row in own]
            label = stage if corpus == "TESS" and own else None
            for axes, value in ((left, "seconds"), (right, "peak_mib")):
                values = [row[value] for row in own]
                axes.plot(sizes, values, style, marker="o", color=f"C{number}", label=label)
    left.set(xscale="log", yscale="log", xlabel="recordings", ylabel="seconds")
    right.set(xscale="log", xlabel="recordings", ylabel="peak memory, all processes (MiB)")
    right.set_ylim(bottom=0)
    canvas.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=8, frameon=False)
    canvas.suptitle("Solid: copies of TESS. Dashed: TESS, RAVDESS and CREMA-D", fontsize=10)
    canvas.savefig(path, dpi=130, metadata={"Software": None})


def write_between(page: Path, text: str) -> None:
    """Replace the text between the marks of a page."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    write_text(page, f"{before}{begin}\n{text}{end}{after}")


if __name__ == "__main__":
    measuring.main(main)
