"""Write the table and figures of benchmarks/results/*.json, and the sections of the docs that show them.

    python benchmarks/table.py

A row that was not measured stays in the table and says so.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import measuring
from speech_emotion.core.io import write_text

SPEED: Final = ("<!-- speed: begin. `make bench` writes this. -->", "<!-- speed: end -->")
"""Markers of the speed table in docs/performance.md."""

WORKERS: Final = ("<!-- workers: begin. `python benchmarks/table.py` writes this. -->", "<!-- workers: end -->")
"""Around the table in docs/scaling.md."""

STAGES: Final = ("<!-- stages: begin. `python benchmarks/table.py` writes this. -->", "<!-- stages: end -->")
"""Around the table in docs/performance.md."""


@dataclass(frozen=True)
class Row:
    """A row of the table: what is asked of a figure.

    Attributes
    ----------
    name : str
        That of its `measuring.Figure`.
    work, peer : str
        In words.
    unit : str
        Behind the figure: "times" faster, or what else it counts.
    better : {"more", "less"}
    must, aim : float or None
        At least, or at most so much.
    aim_words : str
        What the aim is where no number says it.
    """

    name: str
    work: str
    peer: str
    unit: str
    better: Literal["more", "less"]
    must: float | None
    aim: float | None
    aim_words: str = ""

    def holds(self, value: float, limit: float) -> bool:
        """Tell whether a figure keeps a limit."""
        return value >= limit if self.better == "more" else value <= limit

    def verdict(self, value: float | None) -> str:
        """Return what a figure comes to: "aim", "must", "missed", or that there is none."""
        if value is None:
            return "not measured"
        if self.must is not None and not self.holds(value, self.must):
            return "missed"
        if self.aim is not None:
            return "aim" if self.holds(value, self.aim) else ("must" if self.must is not None else "below the aim")
        return "must"

    def limit(self, limit: float | None) -> str:
        """Return a limit in words."""
        if limit is None:
            return "—"
        return f"{'≥' if self.better == 'more' else '≤'} {limit:g} {self.unit}"


ROWS: Final = (
    Row("mfcc", "WAV → 40 MFCCs, one core, warm", "`librosa.load`, `librosa.feature.mfcc`", "times", "more", 2.5, 4),
    Row("mfcc psf", "the same", "python_speech_features at its own settings", "times", "more", 1, 2),
    Row("mfcc kaldi", "the same", "kaldi-native-fbank (C++) at its own settings", "times", "more", 1, 2),
    Row("mfcc opensmile", "the same", "openSMILE's MFCCs at its own settings", "times", "more", 1, 2),
    Row(
        "tess features",
        "TESS, cold start to features on disk, all cores",
        "the serial librosa loop",
        "times",
        "more",
        3,
        None,
        "limited by reading 281 MB",
    ),
    Row("train 94", "training to 94 % test accuracy, random split", "the reference recipe", "times", "more", 5, 10),
    Row(
        "epoch",
        "an epoch, LSTM 128 + 128 over frames, equally right",
        "`model.fit`, zero-padded, batch 32",
        "times",
        "more",
        3,
        None,
    ),
    Row(
        "epoch floor",
        "the same",
        "its matrix products at this machine's own rate",
        "times the floor",
        "less",
        None,
        1.5,
    ),
    Row("clip", "one clip, bytes → answer, warm, one core", "librosa, `model.predict`", "times", "more", 20, None),
    Row("clip p50", "the same, p50", "—", "ms", "less", 5, 2),
    Row("cold", "cold `speech-emotion predict one.wav`", "the same in a fresh process", "times", "more", 3, None),
    Row("cold seconds", "the same", "—", "s", "less", None, 1),
    Row(
        "batch",
        "TESS answered, all cores",
        "a loop over librosa, `model.predict`",
        "times",
        "more",
        50,
        None,
        "limited by decoding",
    ),
    Row("repro nothing", "`dvc repro`, nothing changed, publish included", "—", "s", "less", 10, 5),
    Row(
        "repro evaluate",
        "a parameter of `evaluate` changed: stages that ran and need not",
        "—",
        "stages",
        "less",
        0,
        None,
    ),
    Row("tuning overhead", "a tuning trial, beside its training", "the training itself", "%", "less", 5, None),
    Row("tuning workers", "the same trials by 2 workers", "by 1", "of the time", "less", 0.65, None),
)


def main() -> None:
    """Read, draw and write."""
    given = measuring.options(__doc__).parse_args()
    folder = measuring.results(tiny=given.tiny)
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
    found = {figure["row"]: figure for one in results.values() for figure in one.get("figures", [])}
    text = table(found, results)
    write_text(folder / "table.md", text)
    print(text)
    if found:
        draw_table(found, folder / "table.png")
    if "growth" in results:
        draw_growth(results["growth"]["rows"], folder / "growth.png")
    if given.tiny:
        return
    if found:
        write_between(measuring.ROOT / "docs" / "performance.md", SPEED, short(found))
    if "workers" in results:
        write_between(measuring.ROOT / "docs" / "scaling.md", WORKERS, scaling(results["workers"]))
    if "stages" in results:
        write_between(measuring.ROOT / "docs" / "performance.md", STAGES, stages(results["stages"]))


def table(found: dict[str, dict[str, Any]], results: dict[str, Any]) -> str:
    """Return every row in Markdown, and below it the growth of each stage and what all was measured on."""
    lines = [
        "| work | peer, in the same run | must | aim | measured (lowest to highest) | ours | peer's | verdict |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(row, found.get(row.name)) for row in ROWS),
    ]
    if growth := results.get("growth", {}).get("fits"):
        lines += [
            "",
            "| stage | start (s) | a recording (ms) | power of the corpus | MiB a thousand more |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {stage} | {fit['start_seconds']:.2f} | {fit['milliseconds_a_recording']:.3f} | {fit['exponent']:.2f} | "
            f"{fit['mib_a_thousand']:.1f} |"
            for stage, fit in growth.items()
        ]
    lines += ["", *_machines(results)]
    return "\n".join(lines) + "\n"


def _line(row: Row, figure: dict[str, Any] | None) -> str:
    value = (figure or {}).get("value")
    note = (figure or {}).get("note", "")
    middle = None if value is None else float(value["median"])
    if value is None:
        measured = note or "not measured"
    else:
        measured = f"**{middle:.3g}** {row.unit}"
        if value["low"] != value["high"]:
            measured += f" ({value['low']:.3g} to {value['high']:.3g})"
        measured += f"; {note}" if note else ""
    own, peer = (_seconds((figure or {}).get(side)) for side in ("own", "peer"))
    aim = row.limit(row.aim) if row.aim is not None else row.aim_words or "—"
    cells = [row.work, row.peer, row.limit(row.must), aim, measured, own, peer, row.verdict(middle)]
    return f"| {' | '.join(cells)} |"


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def _machines(results: dict[str, Any]) -> list[str]:
    """Return a line for each machine that results are of: it ought to be one."""
    lines: dict[str, list[str]] = {}
    for name, one in sorted(results.items()):
        machine = one["machine"]
        versions = ", ".join(f"{key} {value}" for key, value in machine["versions"].items() if value)
        words = (
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
            f"Python {machine['python']}; {versions}."
        )
        lines.setdefault(words, []).append(name)
    return [f"Measured on: {words} ({', '.join(names)})" for words, names in lines.items()]


def draw_table(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw how far each measured row is from its must: 1 is met, to the right is better."""
    from matplotlib.figure import Figure as Canvas

    bars = []
    for row in ROWS:
        value = (found.get(row.name) or {}).get("value")
        limit = row.must if row.must else row.aim
        if value is not None and limit:
            share = [value[key] / limit for key in ("median", "low", "high")]
            middle, low, high = (
                share if row.better == "more" else [1 / max(one, 1e-9) for one in (share[0], share[2], share[1])]
            )
            bars.append((row, middle, low, high, f"{value['median']:.3g} {row.unit}"))
    canvas = Canvas(figsize=(9, 0.42 * len(bars) + 1.4), layout="constrained")
    axes = canvas.subplots()
    places = range(len(bars))
    colours = ["#2a7f62" if middle >= 1 else "#b5462f" for _, middle, *_ in bars]
    errors = [[middle - low for _, middle, low, _, _ in bars], [high - middle for _, middle, _, high, _ in bars]]
    axes.barh(places, [middle for _, middle, *_ in bars], color=colours, xerr=errors, ecolor="#555555", height=0.6)
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(places, [f"{row.name}" for row, *_ in bars])
    axes.invert_yaxis()
    for place, (_, _, _, high, words) in zip(places, bars, strict=True):
        axes.annotate(words, (max(high, 1), place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlabel("times better than the must (where there is none: than the aim); 1 is met")
    axes.margins(x=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    canvas.savefig(path, dpi=130, metadata={"Software": None})


def draw_growth(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw time and peak memory of each stage by the number of recordings."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10, 4), layout="constrained")
    left, right = canvas.subplots(1, 2)
    for stage in dict.fromkeys(row["stage"] for row in rows):
        own = [row for row in rows if row["stage"] == stage]
        sizes = [row["recordings"] for row in own]
        left.plot(sizes, [row["seconds"] for row in own], marker="o", label=stage)
        right.plot(sizes, [row["peak_mib"] for row in own], marker="o", label=stage)
    sizes = sorted({row["recordings"] for row in rows})
    slowest = max(row["seconds"] / row["recordings"] for row in rows if row["recordings"] == sizes[-1])
    left.plot(sizes, [slowest * size for size in sizes], color="#999999", linestyle=":", label="linear")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("recordings")
        axes.spines[["top", "right"]].set_visible(False)
    left.set_yscale("log")
    left.set_ylabel("seconds")
    right.axhline(1024, color="#b5462f", linestyle="--", linewidth=1)
    right.annotate("1 GiB", (sizes[0], 1024), xytext=(0, 3), textcoords="offset points", fontsize=8)
    right.set_ylim(bottom=0)
    right.set_ylabel("peak memory, all processes (MiB)")
    handles, labels = left.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    canvas.savefig(path, dpi=130, metadata={"Software": None})


def write_between(page: Path, marks: tuple[str, str], text: str) -> None:
    """Write text into a page, between two marks that stand there."""
    begin, end = marks
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    write_text(page, f"{before}{begin}\n{text}{end}{after}")


def short(found: dict[str, dict[str, Any]]) -> str:
    """Return the figure and the rows that have a limit, with a verdict."""
    lines = ["![Measured figures relative to their limits](../benchmarks/results/table.png)", ""]
    lines += ["| work | compared with | must | measured | verdict |", "|---|---|---|---|---|"]
    for row in ROWS:
        value = (found.get(row.name) or {}).get("value")
        if value is not None and row.must is not None:
            figure = f"{value['median']:.3g} {row.unit}"
            verdict = row.verdict(float(value["median"]))
            lines.append(f"| {row.work} | {row.peer} | {row.limit(row.must)} | {figure} | {verdict} |")
    return "\n".join(lines) + "\n"


def stages(measured: dict[str, Any]) -> str:
    """Return time and peak memory of every stage on the corpus of this repository."""
    lines = ["| stage | seconds | peak memory (MiB) |", "|---|---|---|"]
    lines += [f"| {name} | {row['seconds']:.0f} | {row['peak_mib']:.0f} |" for name, row in measured["stages"].items()]
    machine = measured["machine"]
    lines.append("")
    lines.append(
        f"Corpus {measured['corpus']}, on {machine['cpu']} with {machine['cores']} cores, by "
        f"`python benchmarks/stages.py`; whatever else the machine did, it was under a load of {machine['load']:.1f}."
    )
    return "\n".join(lines) + "\n"


def scaling(workers: dict[str, Any]) -> str:
    """Return recordings a second and memory by place and corpus, and where each line bends."""
    rows = workers["rows"]
    places = list(dict.fromkeys(row["place"] for row in rows))
    times = sorted({row["times"] for row in rows})
    known = {(row["place"], row["times"]): row for row in rows}
    sizes = [f"{known[places[0], one]['recordings']:,}" for one in times]
    lines = [
        f"| where | {' | '.join(f'{size} recordings' for size in sizes)} | without its start | bends |",
        f"|{'---|' * (len(times) + 3)}",
    ]
    for place in places:
        own = [known[place, one] for one in times]
        cells = [f"{row['seconds']:.1f} s, {row['a_second']:.0f} a second, {row['peak_mib']:.0f} MiB" for row in own]
        lines.append(f"| {place} | {' | '.join(cells)} | {_without_start(own)} | {_bend(own)} |")
    machine = workers["machine"]
    lines.append("")
    lines.append(f"On {machine['cpu']} with {machine['cores']} cores, by `python benchmarks/workers.py`.")
    return "\n".join(lines) + "\n"


def _without_start(own: Sequence[dict[str, Any]]) -> str:
    """Return the recordings a second between the two largest sizes, where the start no longer counts."""
    if len(own) < 2 or own[-1]["seconds"] <= own[-2]["seconds"]:
        return "—"
    more = (own[-1]["recordings"] - own[-2]["recordings"]) / (own[-1]["seconds"] - own[-2]["seconds"])
    return f"{more:.0f} a second"


def _bend(own: Sequence[dict[str, Any]]) -> str:
    """Return from which size on the time grows by more than the corpus does, by a tenth at least."""
    for before, after in itertools.pairwise(own):
        power = math.log(after["seconds"] / before["seconds"]) / math.log(after["recordings"] / before["recordings"])
        if power > 1.1:
            return f"from {before['recordings']:,} on"
    return "nowhere"


if __name__ == "__main__":
    measuring.main(main)
