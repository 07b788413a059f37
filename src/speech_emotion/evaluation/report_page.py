"""Write report.html: every result of a corpus on one page.

Images are embedded; there are no scripts and no external resources. Equal reports give equal bytes.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from speech_emotion.config.data import CorpusSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import write_text
from speech_emotion.core.tables import read_table
from speech_emotion.data.corpora import facts
from speech_emotion.data.splits import TEST, VALIDATION
from speech_emotion.evaluation import model_card
from speech_emotion.evaluation.bootstrap import MANY, Interval
from speech_emotion.evaluation.comparison import MODEL, TABLE, WHOLE, best_baseline
from speech_emotion.evaluation.metrics import HEADLINES
from speech_emotion.evaluation.model_card import Table
from speech_emotion.evaluation.plots import words
from speech_emotion.models.baselines import DESCRIPTIONS
from speech_emotion.models.package import Package

_WIDEST: Final = 1120
"""Largest width of an image in pixels."""
_QUALITY: Final = 60
_LONGEST: Final = 60
"""Largest number of rows of a further table."""

_ACRONYMS: Final = {"uar": "UAR", "nll": "NLL", "ece": "ECE", "macro_f1": "macro-F1"}

_Cell = tuple[float, float, float] | None
"""A value with its interval; None: no value."""


@dataclass(frozen=True)
class Picture:
    """An embedded image: its bytes as a data URL, its size, and its caption."""

    address: str
    width: int
    height: int
    caption: str


def write_page(
    target: Path, *, recordings: pd.DataFrame, package: Package, reports: Path, corpus: CorpusSettings
) -> None:
    """Write the page from the corpus (`recordings`: audio_stats.csv), the package and the folder of reports.

    Folders in `reports` that the page does not know are shown as figures and tables. The results for each corpus of a
    mix are also written to `comparison/corpora.md`.

    Raise a `UserError` if a report is missing or damaged.
    """
    environment = model_card.environment()
    environment.filters["markdown"] = markdown
    try:
        content = _content(recordings, package, reports, corpus)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{reports}: a report is missing or damaged ({error}). Run `dvc repro`.") from None
    write_text(target, environment.get_template("report.html.j2").render(content))
    if content["corpora"]:
        template = environment.from_string(
            '{% import "corpus_texts.md.j2" as texts %}{{ texts.results(corpora, altered) }}'
        )
        write_text(reports / "comparison" / "corpora.md", template.render(content))


def markdown(text: str) -> Markup:
    """Render Markdown as HTML. HTML in the text, such as in the name of a corpus, is escaped."""
    return Markup(MarkdownIt("commonmark", {"html": False}).render(text))


def picture(path: Path, caption: str) -> Picture:
    """Embed an image as WebP, which takes a tenth of the bytes of a PNG for spectrograms."""
    with Image.open(path) as image:
        shown = image.convert("RGB")
    if shown.width > _WIDEST:
        shown = shown.resize((_WIDEST, round(shown.height * _WIDEST / shown.width)), Image.Resampling.LANCZOS)
    # lines on white are smaller, and sharper, without loss
    smallest = min(_webp(shown, quality=_QUALITY), _webp(shown, lossless=True), key=len)
    text = base64.b64encode(smallest).decode()
    return Picture(f"data:image/webp;base64,{text}", shown.width, shown.height, caption)


def _webp(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", method=6, **options)
    return buffer.getvalue()


def _content(recordings: pd.DataFrame, package: Package, reports: Path, corpus: CorpusSettings) -> dict[str, Any]:
    description, evaluation = package.description, package.evaluation()
    protocols = dict(model_card.in_order(evaluation))
    questions = {name: model_card.question(name, report, corpus.kind) for name, report in protocols.items()}
    explanation = reports / "explanation"
    comparison = _comparison(reports / "comparison" / TABLE, questions, chance=1 / len(description.labels))
    findings = model_card.findings(description, evaluation, corpus.kind)
    if comparison:
        _, _, (uar, *_), best, *_ = comparison[0].rows[0]
        findings[0].notes.append(f"Best simple baseline: {100 * uar:.1f}\N{NO-BREAK SPACE}%, {best}.")
    speakers = recordings["speaker"].nunique()
    full = evaluation.get("full", {})
    lineage = sorted([name, digest] for name, digest in description.lineage.items())
    return {
        "corpus": corpus.name,
        "altered": corpus.checksums == "ignore",
        "facts": facts(corpus.kind, corpus.corpora),
        "resampled": model_card.resampled(evaluation, corpus.kind),
        "tested": full.get("part") == TEST,
        "seen": full.get("part") == VALIDATION and full["unseen"]["speaker"] == 0,
        "size": f"{len(recordings):,} recordings, {speakers} speaker{'s' if speakers != 1 else ''}, "
        f"{recordings['seconds'].sum() / 3600:.1f} hours, {len(description.labels)} emotions.",
        "findings": findings,
        "comparison": comparison,
        "corpora": model_card.by_corpus(evaluation),
        "unseen_speakers": model_card.unseen_speakers(evaluation),
        "recalls": _recalls(protocols, description.labels),
        "calibration": _calibration(protocols),
        "description": description,
        "pictures": {
            "comparison": _pictures(reports / "comparison"),
            "corpus": _pictures(reports / "corpus"),
            "explanation": _pictures(explanation),
            **{
                name: [
                    picture(path, f"{protocol}: {_CAPTIONS[name]}")
                    for protocol in protocols
                    for path in (reports / "protocols" / protocol).glob(f"{name}.png")
                ]
                for name in ("confusion", "reliability", "risk_coverage")
            },
        },
        "errors": _file(explanation / "errors.csv", "Most confident errors by protocol"),
        "label_issues": _label_issues(reports / "baselines" / "label_issues.csv"),
        "others": _others(reports),
        "provenance": Table("Digests", ["", "SHA-256"], [["package", package.digest], *lineage]),
    }


def _comparison(path: Path, questions: Mapping[str, str], *, chance: float) -> list[Table]:
    """Return the model beside the best baseline, and every metric of every model; empty without test parts."""
    if not path.is_file():
        return []
    table = read_table(path)
    table["title"] = table["name"].map({MODEL: "this model", **DESCRIPTIONS})
    whole = table[table["fold"].isin(WHOLE)]
    protocols = [protocol for protocol in questions if protocol in set(whole["protocol"])]
    short = []
    for protocol in protocols:
        rows = whole[whole["protocol"] == protocol]
        model, best = rows[rows["name"] == MODEL].iloc[0], best_baseline(rows)
        title = f"{protocol}: {questions[protocol]}"
        cells = [_cell(model, "uar"), _cell(best, "uar"), best["title"], _cell(best, "model_ahead")]
        short.append([title, *cells, chance])
    figures = [*HEADLINES, "model_ahead"]
    details = [
        [row["protocol"], _fold(row["fold"]), row["title"], *(_cell(row, name) for name in figures), row["p"] or None]
        for _, row in table.fillna({"p": 0}).iterrows()
    ]
    columns = ["protocol", "this model", "best simple baseline", "which", "model ahead by", "chance"]
    metrics = [_ACRONYMS.get(metric, words(metric)) for metric in HEADLINES]
    names = ["protocol", "left out", "model", *metrics, "model ahead by (UAR)", "p"]
    return [
        Table("UAR of this model and of the best baseline", columns, short),
        Table("Every metric by fold", names, details),
    ]


def _cell(row: pd.Series, metric: str) -> _Cell:
    value = float(row[metric])
    return None if value != value else (value, float(row[f"{metric}_low"]), float(row[f"{metric}_high"]))


def _recalls(protocols: Mapping[str, Any], labels: Sequence[str]) -> Table:
    """Return the recall of each emotion, by fold and, where a fold has a few, by speaker."""
    rows = []
    for protocol, report in protocols.items():
        for fold, scores in report["folds"].items():
            speakers = scores["speakers"] if 1 < len(scores["speakers"]) < MANY else {}
            for speaker, one in {"all": scores, **speakers}.items():
                recalls = [one["recall"].get(label) for label in labels]
                rows.append([protocol, _fold(fold), speaker, *recalls, one["uar"]])
    columns = ["protocol", "left out", "speaker", *map(words, labels), "UAR"]
    return Table("Recall by speaker and emotion", columns, rows)


def _calibration(protocols: Mapping[str, Any]) -> Table:
    """Return calibration by fold, and coverage and risk at the threshold of "not sure"."""

    def cell(place: Mapping[str, Any], metric: str) -> _Cell:
        return (place[metric], *astuple(Interval.from_list(place["interval"][metric])))

    rows = []
    for protocol, report in protocols.items():
        mean = {"mean": report["mean"]} if len(report["folds"]) > 1 else {}
        for fold, found in (report["folds"] | mean).items():
            scores = [cell(found["uncalibrated"], "ece"), *(cell(found, name) for name in ("ece", "nll", "brier"))]
            rejection = [found["rejection"] and found["rejection"][name] for name in ("coverage", "risk")]
            rows.append([protocol, _fold(fold), *scores, *rejection])
    columns = ["protocol", "left out", "ECE before calibration", "ECE", "NLL", "Brier", "coverage", "risk"]
    return Table("Calibration", columns, rows)


def _label_issues(path: Path) -> Table:
    table = _file(path, "")
    suspected = [row[0] for row in table.rows]
    title = f"{sum(suspected)} suspected labels; the {min(10, len(suspected))} least certain"
    return Table(title, table.columns[1:], [row[1:] for row in table.rows[:10]])


def _others(reports: Path) -> list[tuple[str, list[Table], list[Picture]]]:
    """Return the tables and figures of each further folder, such as `robustness`."""
    known = {"protocols", "comparison", "corpus", "explanation", "baselines"}
    found = []
    for folder in sorted(path for path in reports.iterdir() if path.is_dir() and path.name[0] != "."):
        if folder.name not in known:
            tables = [_file(path, words(path.stem)) for path in sorted(folder.glob("*.csv"))]
            short = [table for table in tables if 0 < len(table.rows) <= _LONGEST]
            found.append((words(folder.name), short, _pictures(folder)))
    return [one for one in found if one[1] or one[2]]


def _file(path: Path, title: str) -> Table:
    """Return a table of a report, with readable labels."""
    table = read_table(path).astype(object)
    table = table.where(table.notna(), None)
    labels = table.columns.intersection(["emotion", "prediction", "given", "predicted", "detail"])
    table[labels] = table[labels].map(words)
    return Table(title, [words(name) for name in table.columns], table.to_numpy().tolist())


def _pictures(folder: Path) -> list[Picture]:
    return [picture(path, _caption(path)) for path in sorted(folder.glob("*.png"))]


def _caption(path: Path) -> str:
    key = f"{path.parent.name}/{path.stem}"
    return _CAPTIONS.get(key) or _CAPTIONS.get(path.stem) or words(key.replace("/", ": "))


def _fold(name: str) -> str:
    """Return the fold as it is shown: empty where there is only one."""
    return "" if name == "all" else name


_CAPTIONS: Final[Mapping[str, str]] = {
    "table": "UAR of every model by protocol, with 95 % intervals; chance is dotted, single folds are light.",
    "confusion": "true label (rows) and prediction (columns), in percent.",
    "reliability": "accuracy by confidence; on the diagonal, confidence is calibrated.",
    "risk_coverage": "share of wrong predictions when only the most confident ones are kept.",
    "robustness/table": "UAR of modified recordings, with 95 % intervals; that of the original is dotted.",
    "corpus/utterances": "One utterance of each emotion: waveform, spectrogram, MFCC.",
    "confounds": "Level and duration by emotion and speaker.",
    "occlusion": "Log-odds lost when a group of features is hidden, by predicted emotion; red supported the "
    "prediction. c1, c2, … are cepstral coefficients, from the broad shape of the spectrum to its fine structure. "
    "Alpha ratio: energy from 1 to 5 kHz relative to that below 1 kHz, in dB.",
    "tuning/optimization_history": "Loss (NLL) on the validation part by trial, and the best so far; lower is better.",
    "tuning/param_importances": "Share of the differences between trials that each hyperparameter explains (fANOVA).",
    "tuning/timeline": "When each trial ran, and how it ended.",
    "tuning/intermediate_values": "Loss of each trial by epoch, the mean over the folds trained so far. Trials that "
    "end early were pruned.",
    "tuning/pareto_front": "Loss against the second objective; the best trade-offs are marked.",
}
