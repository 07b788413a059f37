"""Print the targets of the built-in model with the committed figures, as a Markdown table.

The figures are those of reports/voices (left-out speakers and corpora, all folds together) and reports/tess.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

REPORTS = Path("reports")
NONE, NEUTRAL, ALL = "none", "3 neutral", "all unlabelled (transductive)"
BASELINE = "svm_functionals"


class Target(NamedTuple):
    """A metric in some conditions, with the lowest (of `ece`: the highest) values that are required and hoped for."""

    title: str
    protocol: str
    corpus: str
    metric: str
    must: dict[str, float]
    aim: dict[str, float]


TARGETS = (
    Target(
        "CREMA-D, UAR of 6 labels",
        *("speaker", "crema_d", "uar"),
        {NONE: 0.60, NEUTRAL: 0.65, ALL: 0.68},
        {NONE: 0.66, NEUTRAL: 0.70, ALL: 0.72},
    ),
    Target(
        "RAVDESS, UAR of 7 labels",
        *("speaker", "ravdess", "uar"),
        {NONE: 0.54, NEUTRAL: 0.60, ALL: 0.64},
        {NONE: 0.62, NEUTRAL: 0.68, ALL: 0.72},
    ),
    Target(
        "TESS left out as a whole, UAR",
        *("corpus", "tess", "uar"),
        {NONE: 0.50, NEUTRAL: 0.60},
        {NONE: 0.60, NEUTRAL: 0.75},
    ),
    Target(
        "one actress of TESS left out, UAR",
        *("speaker", "tess", "uar"),
        {NONE: 0.58, NEUTRAL: 0.68},
        {NONE: 0.72, NEUTRAL: 0.85},
    ),
    Target(
        "ECE, all corpora",
        *("speaker", "all", "ece"),
        dict.fromkeys((NONE, NEUTRAL, ALL), 0.05),
        dict.fromkeys((NONE, NEUTRAL, ALL), 0.03),
    ),
    Target(
        "coverage at 20 % risk, all corpora",
        *("speaker", "all", "coverage_at_20_risk"),
        dict.fromkeys((NONE, NEUTRAL, ALL), 0.45),
        dict.fromkeys((NONE, NEUTRAL, ALL), 0.60),
    ),
)


def rows() -> list[tuple[str, ...]]:
    """Return what, references, must, aim, figure, verdict and figure of the baseline of each target.

    Corpora that are not in reports/voices are left out.
    """
    table = pd.read_csv(REPORTS / "voices" / "comparison" / "corpora.csv")
    table = table[table["sex"] == "all"].set_index(["name", "protocol", "corpus", "condition"])
    figures: dict[Any, dict[Any, float]] = table.to_dict("index")
    found: list[tuple[str, ...]] = []
    for one in TARGETS:
        lower = one.metric == "ece"
        for condition, must in one.must.items():
            model, svm = ((name, one.protocol, one.corpus, condition) for name in ("model", BASELINE))
            if model not in figures:
                continue
            value, aim = figures[model][one.metric], one.aim[condition]
            signs = "≤" if lower else "≥"
            limits = (f"{signs} {must:.2f}", f"{signs} {aim:.2f}")
            simple = f"{figures[svm][one.metric]:.3f}" if svm in figures else "-"
            result = verdict(value, must, aim, lower=lower)
            found.append((one.title, condition, *limits, f"{value:.3f}", result, simple))
    tess = pd.read_csv(REPORTS / "tess" / "comparison" / "table.csv")
    for protocol in ("random", "word"):
        uar = float(tess[(tess["protocol"] == protocol) & (tess["name"] == "model")]["uar"].iloc[0])
        result = "meets must" if uar >= 0.995 else "missed"
        found.append((f"TESS preset, {protocol} split, UAR", NONE, "≥ 0.995", "-", f"{uar:.3f}", result, "-"))
    return found


def verdict(value: float, must: float, aim: float, *, lower: bool) -> str:
    """Return whether a figure meets its limits."""
    sign = -1 if lower else 1
    return "meets aim" if sign * value >= sign * aim else "meets must" if sign * value >= sign * must else "missed"


def main() -> None:
    """Print the table."""
    print("| what | references | must | aim | figure | verdict | SVM |\n|---|---|---|---|---|---|---|")
    for row in rows():
        print(f"| {' | '.join(row)} |")
    print("\nSVM: on functionals of MFCCs and prosody, with the same references.")
    if "checksums: ignore" in (REPORTS / "voices" / "params.yaml").read_text(encoding="utf-8"):
        print("Recordings were accepted by their names (`corpus.checksums: ignore`) and may differ from the originals.")


if __name__ == "__main__":
    try:
        main()
    except (OSError, KeyError) as error:
        sys.exit(f"error: {REPORTS}: a report is missing or damaged ({error}). Run this in the root of the repository.")
