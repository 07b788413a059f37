"""Write report.html: every result of a corpus on one page.

Images are embedded; there are no scripts and no external resources. Equal reports give equal bytes.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import jinja2
import pandas as pd
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from speech_emotion.config.data import CorpusSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import write_text
from speech_emotion.evaluation import model_card
from speech_emotion.evaluation.bootstrap import Interval
from speech_emotion.evaluation.comparison import MODEL
from speech_emotion.evaluation.label_issues import CROSS_VALIDATED
from speech_emotion.evaluation.metrics import HEADLINES
from speech_emotion.models.baselines import DESCRIPTIONS
from speech_emotion.models.package import Package

TEMPLATE: Final = "report.html.j2"

_WIDEST: Final = 1120
"""Pixels of a picture in the page: what a screen of usual width shows; the reports' own pictures are larger."""
_QUALITY: Final = 60

_NAMES: Final = {
    "uar": "UAR",
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
}


@dataclass(frozen=True)
class Picture:
    """A picture in the page: its bytes as an address, its size, and what is to be seen."""

    address: str
    width: int
    height: int
    caption: str


@dataclass(frozen=True)
class Figure:
    """One of the numbers at the top of the page."""

    value: str
    title: str
    note: str


def write_page(
    target: Path, *, recordings: pd.DataFrame, package: Package, reports: Path, corpus: CorpusSettings
) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    target : Path
    recordings : pd.DataFrame
        From audio_stats.csv.
    package : Package
        With the evidence of every protocol.
    reports : Path
        The corpus's folder of reports: `protocols`, `comparison`, `corpus`, `explanation`, and whatever other folder of
        pictures and tables lies there, such as `robustness`.
    corpus : CorpusSettings

    Raises
    ------
    UserError
        A report is missing or damaged.
    """
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["markdown"] = markdown
    environment.filters["words"] = lambda label: str(label).replace("_", " ")
    source = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    try:
        content = _content(recordings, package, reports, corpus)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{reports}: a report is missing or damaged ({error}). Run `dvc repro`.") from None
    write_text(target, environment.from_string(source).render(content))


def markdown(text: str) -> Markup:
    """Render Markdown as HTML. HTML in the text, such as in the name of a corpus, is escaped."""
    return Markup(MarkdownIt("commonmark", {"html": False}).render(text))


def picture(path: Path, caption: str) -> Picture:
    """Return a picture for the page: no wider than is seen, as WebP, which holds spectrograms in a tenth of a PNG."""
    with Image.open(path) as image:
        shown = image.convert("RGB")
    if shown.width > _WIDEST:
        shown = shown.resize((_WIDEST, round(shown.height * _WIDEST / shown.width)), Image.Resampling.LANCZOS)
    # lines on white are smaller, and sharper, without loss
    smallest = min(_webp(shown, quality=_QUALITY), _webp(shown, lossless=True), key=len)
    text = base64.b64encode(smallest).decode()
    return Picture(f"data:image/webp;base64,{text}", shown.width, shown.height, caption)


def _webp(image: Image.Image, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", method=6, **how)
    return buffer.getvalue()


def _content(recordings: pd.DataFrame, package: Package, reports: Path, corpus: CorpusSettings) -> dict[str, Any]:
    description = package.description
    evidence = {name: found for name, found in package.evidence().items() if name != model_card.ROBUSTNESS}
    order = sorted(evidence, key=_place)
    explanation = reports / "explanation"
    return {
        "corpus": corpus.name,
        "labels": description.labels,
        "figures": _figures(description.labels, evidence),
        "reading": model_card.reading(description, evidence),
        "rivals": _rivals(reports / "comparison"),
        "limits": model_card.limits(corpus.kind),
        "protocols": {name: model_card.QUESTIONS[name] for name in order},
        "table": _summary(reports / "comparison"),
        "details": _details(reports / "comparison"),
        "recalls": [
            {"protocol": protocol, "fold": "" if fold == "all" else fold, **scores}
            for protocol in order
            for fold, scores in evidence[protocol]["folds"].items()
        ],
        "calibration": [
            {"protocol": name, "fold": fold, **_calibration(found)}
            for name in order
            for fold, found in _folds_and_mean(evidence[name])
        ],
        "description": description,
        "pictures": {
            "comparison": _pictures(reports / "comparison"),
            "protocols": [one for name in order for one in _pictures(reports / "protocols" / name, name)],
            "corpus": _pictures(reports / "corpus"),
            "explanation": {one.stem: picture(one, _caption(one)) for one in sorted(explanation.glob("*.png"))},
        },
        "neighbours": _rows(explanation / "neighbours.csv"),
        "rests": _rests(explanation / "occlusion.csv"),
        "errors": _rows(explanation / "errors.csv"),
        "doubts": _doubts(reports / "baselines" / "label_issues.csv"),
        "cross_validated": CROSS_VALIDATED,
        "others": _others(reports),
        "utterances": len(recordings),
        "speakers": int(recordings["speaker"].nunique()),
        "hours": float(recordings["seconds"].sum()) / 3600,
        "digest": package.digest,
    }


def _place(protocol: str) -> int:
    """Return where a protocol stands on the page: the one that counts for new people first, also on a narrow screen."""
    return list(model_card.QUESTIONS).index(protocol)


def _figures(labels: Sequence[str], evidence: Mapping[str, Any]) -> list[Figure]:
    """Return the numbers at the top: performance for an unseen speaker first."""
    found = []
    titles = {"speaker": "for an unseen speaker", "word": "on unseen words of seen speakers"}
    for protocol, title in titles.items():
        if protocol in evidence:
            mean = evidence[protocol]["mean"]
            note = f"95 % interval {_span(mean, 'uar')}; guessing gives {100 / len(labels):.1f}"
            found.append(Figure(f"{100 * mean['uar']:.1f} %", f"UAR {title}", note))
    if "speaker" in evidence:
        label, recalls = model_card.worst_emotion(evidence["speaker"])
        value = f"{100 * sum(recalls.values()) / len(recalls):.1f} %"
        found.append(
            Figure(value, f"recall of “{label.replace('_', ' ')}” for an unseen speaker", "the lowest of the emotions")
        )
        mean = evidence["speaker"]["mean"]
        note = f"percentage points; 95 % interval {_span(mean, 'ece')}"
        found.append(Figure(f"{100 * mean['ece']:.1f}", "expected calibration error for an unseen speaker", note))
    return found


def _summary(folder: Path) -> dict[str, Any] | None:
    """Return the protocol table: a row a model, a cell a protocol; None: no protocol has a test part."""
    path = folder / "table.csv"
    if not path.is_file():
        return None
    table = pd.read_csv(path, dtype={"fold": str})
    whole = table[table["fold"].isin(["all", "mean"])]
    protocols = sorted(dict.fromkeys(whole["protocol"]), key=_place)
    rows = []
    for name, own in whole.groupby("name", sort=False):
        cells = own.set_index("protocol").reindex(protocols).to_dict("records")
        rows.append({"name": _title(str(name)), "model": name == MODEL, "cells": cells})
    return {"protocols": protocols, "rows": rows}


def _rivals(folder: Path) -> list[str]:
    """Compare the model with the best baseline of each protocol, in sentences."""
    path = folder / "table.csv"
    if not path.is_file():
        return []
    rows = _rows(path)
    whole = [row for row in rows if row["fold"] in {"all", "mean"}]
    lines = []
    for protocol in sorted({row["protocol"] for row in whole}, key=_place):
        others = [row for row in whole if row["protocol"] == protocol and row["name"] != MODEL]
        if not others:
            continue
        best = max(others, key=lambda row: float(row["uar"]))
        ahead, low, high = (100 * _number(best[f"model_ahead{end}"]) for end in ("", "_low", "_high"))
        verdict = "is ahead" if low > 0 else "is behind" if high < 0 else "is not measurably better or worse"
        lines.append(
            f"**Best baseline, `{protocol}`:** {_title(best['name'])} reaches "
            f"{100 * float(best['uar']):.0f} %. This model {verdict} (difference {ahead:+.1f} points, 95 % interval "
            f"{low:+.1f} to {high:+.1f}, on the same utterances)."
        )
        shortcut = next((row for row in others if row["name"] == "shortcut" and protocol == "random"), None)
        if shortcut is not None:
            lines.append(
                f"**Without speech features:** level, peak and duration alone reach "
                f"{100 * float(shortcut['uar']):.0f} % on `random`, so that protocol says little."
            )
    # a mean over speakers can hide whom it fails
    for row in rows:
        if row["fold"] in {"all", "mean"} or row["name"] == MODEL or not _number(row["model_ahead_high"]) < 0:
            continue
        ahead, low, high = (100 * float(row[f"model_ahead{end}"]) for end in ("", "_low", "_high"))
        reached = f"{100 * float(row['uar']):.0f} % on that speaker"
        lines.append(
            f"**Without {row['fold']}:** {_title(row['name'])} reaches {reached}, "
            f"and this model is behind it (difference {ahead:+.1f} points, {low:+.1f} to {high:+.1f})."
        )
    return lines


def _number(cell: Any) -> float:
    """Return a cell as a number; NaN for the empty cell of an unknown interval."""
    return float(cell) if str(cell) else float("nan")


def _details(folder: Path) -> list[dict[str, Any]]:
    path = folder / "table.csv"
    if not path.is_file():
        return []
    table = pd.read_csv(path, dtype={"fold": str})
    return [
        {
            "protocol": row["protocol"],
            "fold": "" if row["fold"] == "all" else row["fold"],
            "name": _title(str(row["name"])),
            "cells": [(row[metric], row[f"{metric}_low"], row[f"{metric}_high"]) for metric in HEADLINES],
            "ahead": None
            if pd.isna(row["model_ahead"])
            else (row["model_ahead"], row["model_ahead_low"], row["model_ahead_high"], row["p"]),
        }
        for row in table.to_dict("records")
    ]


def _title(name: str) -> str:
    return "this model" if name == MODEL else DESCRIPTIONS.get(name, name)


def _span(mean: Mapping[str, Any], metric: str) -> str:
    """Return the interval of a metric in percent, without the sign."""
    return Interval.from_list(mean["interval"][metric]).text(".1%").replace("%", "")


def _folds_and_mean(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    folds = report["folds"]
    return [*folds.items(), ("mean", report["mean"])] if len(folds) > 1 else [("", report["mean"])]


def _calibration(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table: errors with their intervals, and what the threshold lets through."""

    def cell(place: Mapping[str, Any], name: str) -> tuple[float, float, float] | None:
        value = place.get(name)
        return None if value is None else (value, *astuple(Interval.from_list(place["interval"][name])))

    before, rejection = found.get("uncalibrated"), found.get("rejection")
    return {
        "before": before and cell(before, "ece"),
        "cells": {name: cell(found, name) for name in ("ece", "nll", "brier")},
        "sure": rejection and cell(rejection, "coverage"),
        "wrong": rejection and cell(rejection, "risk"),
    }


def _rests(path: Path) -> list[dict[str, Any]]:
    """Return the three tenths and groups of features whose hiding changes most predictions."""
    table = pd.read_csv(path)
    table = table.assign(weighted=table["changed"] * table["utterances"])
    sums = table.groupby(["hidden", "piece"], sort=False)[["weighted", "utterances"]].sum().reset_index()
    sums = sums.assign(changed=sums["weighted"] / sums["utterances"])
    return [
        {"hidden": hidden, "pieces": rows.nlargest(3, "changed")[["piece", "changed"]].to_dict("records")}
        for hidden, rows in sums.groupby("hidden", sort=False)
    ]


def _doubts(path: Path) -> list[dict[str, Any]]:
    table = pd.read_csv(path, dtype={"text": str}, keep_default_na=False)
    return [
        {"source": source, "suspected": int(rows["suspected"].sum()), "rows": rows.head(10).to_dict("records")}
        for source, rows in table.groupby("source", sort=False)
    ]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [
        {str(name): value for name, value in row.items()}
        for row in pd.read_csv(path, dtype={"text": str, "fold": str}, keep_default_na=False).to_dict("records")
    ]


def _others(reports: Path) -> list[dict[str, Any]]:
    """Return what other stages have written for this corpus: the pictures and tables of each further folder."""
    known = {"protocols", "comparison", "corpus", "explanation", "baselines"}
    found = []
    for folder in sorted(path for path in reports.iterdir() if path.is_dir() and path.name[0] != "."):
        if folder.name in known:
            continue
        tables = [_table(path) for path in sorted(folder.glob("*.csv"))]
        pictures = _pictures(folder)
        if tables or pictures:
            title = folder.name.replace("_", " ").capitalize()
            found.append(
                {"name": folder.name, "title": title, "tables": [one for one in tables if one], "pictures": pictures}
            )
    return found


def _table(path: Path, longest: int = 60) -> dict[str, Any] | None:
    """Return a table that is short enough to be read; None: it is not."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if len(table) > longest:
        return None
    shown = table.map(_shortened)
    return {"title": path.stem.replace("_", " "), "columns": list(shown.columns), "rows": shown.to_numpy().tolist()}


def _shortened(cell: str) -> str:
    return f"{float(cell):.3f}" if re.fullmatch(r"-?\d+\.\d{4,}", cell) else cell


def _pictures(folder: Path, protocol: str = "") -> list[Picture]:
    return [picture(path, _caption(path, protocol)) for path in sorted(folder.glob("*.png"))]


def _caption(path: Path, protocol: str = "") -> str:
    said = _CAPTIONS.get(f"{path.parent.name}/{path.stem}") or _CAPTIONS.get(path.stem)
    text = said or f"{path.parent.name}: {path.stem}".replace("_", " ")
    return f"{protocol}: {text}" if protocol else text


_CAPTIONS: Final[Mapping[str, str]] = {
    "table": "UAR of every model by protocol, with 95 % intervals; chance is dotted.",
    "recall": "Recall of each emotion, by protocol and speaker.",
    "confusion": "true label (rows) and prediction (columns), in percent.",
    "curves": "Loss and accuracy by epoch, on the training part (solid) and the validation part (dashed).",
    "reliability": "accuracy by confidence; on the diagonal, confidence is calibrated.",
    "risk_coverage": "share of wrong predictions when only the most confident ones are given.",
    "robustness/table": "UAR of modified recordings, with 95 % intervals.",
    "corpus/utterances": "One utterance of each emotion: waveform, spectrogram, chromagram, MFCC.",
    "counts": "Recordings of each emotion.",
    "profiles": "What each speaker changes for each emotion, and the most similar emotion of another speaker.",
    "confounds": "Level and duration by emotion and speaker.",
    "network": "The network.",
    "occlusion": "Log-odds lost when a tenth of each utterance (left) or a group of features (right) is hidden, by "
    "predicted emotion; red supported the prediction. c1, c2, … are cepstral coefficients, from the broad shape of the "
    "spectrum to its fine structure. Alpha ratio: energy from 1 to 5 kHz relative to that below 1 kHz, in dB.",
    "embeddings": "Nearby points are similar; long distances have no meaning.",
    "errors": "The most confident errors, each kind once.",
    "tuning/optimization_history": "The search for settings, trial by trial: UAR on the validation part, "
    "and the best so far.",
    "tuning/param_importances": "Which settings decide: the share of the differences between trials that each explains "
    "(fANOVA).",
    "tuning/parallel_coordinate": "Every trial that was completed as a line through its settings; the darker, the "
    "higher its UAR.",
    "tuning/slice": "UAR by each setting on its own; the darker, the later the trial.",
    "tuning/timeline": "When each trial ran, and how it ended. One that was pruned was given up early, as too poor.",
    "tuning/intermediate_values": "UAR of each trial after every epoch, the mean over the folds trained so far, so it "
    "steps where the next fold begins. Trials that end early were pruned.",
    "tuning/pareto_front": "UAR against what was kept small beside it; trials that no other beats in both are marked.",
}
