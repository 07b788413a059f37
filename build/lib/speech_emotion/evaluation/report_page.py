"""Write report.html: every result of a corpus on one page.

Images are embedded; there are no scripts and no external resources. Equal reports give equal bytes.
"""

import base64
import io
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
from speech_emotion.evaluation.metrics import HEADLINES
from speech_emotion.models.baselines import DESCRIPTIONS
from speech_emotion.models.package import Package

TEMPLATE: Final = "report.html.j2"

_WIDEST: Final = 1120
"""Largest width of an image in pixels."""
_QUALITY: Final = 60
_LONGEST: Final = 60
"""Largest number of rows of a further table."""


@dataclass(frozen=True)
class Picture:
    """An embedded image: its bytes as a data URL, its size, and its caption."""

    address: str
    width: int
    height: int
    caption: str


@dataclass(frozen=True)
class Table:
    """A table of texts, numbers, intervals (value, low, high) and empty cells (None)."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def write_page(
    target: Path, *, recordings: pd.DataFrame, package: Package, reports: Path, corpus: CorpusSettings
) -> None:
    """Write the page atomically.

    Parameters
    ----------
    target : Path
    recordings : pd.DataFrame
        From audio_stats.csv.
    package : Package
        With the evidence of every protocol.
    reports : Path
        The reports of the corpus. Folders that the page does not know are shown as figures and tables.
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
    description = package.description
    evidence = {name: found for name, found in package.evidence().items() if name != model_card.ROBUSTNESS}
    order = sorted(evidence, key=_place)
    explanation = reports / "explanation"
    comparison = _comparison(reports / "comparison", chance=1 / len(description.labels))
    findings = model_card.findings(description, evidence)
    if comparison:
        _, _, (uar, *_), best, *_ = comparison[0].rows[0]
        findings[0].notes.append(f"Best simple baseline: {100 * uar:.1f}\N{NO-BREAK SPACE}%, {best}.")
    speakers = recordings["speaker"].nunique()
    return {
        "corpus": corpus.name,
        "size": f"{len(recordings):,} recordings, {speakers} speaker{'s' if speakers != 1 else ''}, "
        f"{recordings['seconds'].sum() / 3600:.1f} hours, {len(description.labels)} emotions.",
        "findings": findings,
        "caveat": model_card.caveat(corpus.kind),
        "limits": model_card.limits(corpus.kind),
        "comparison": comparison,
        "recalls": _recalls(evidence, order, description.labels),
        "calibration": _calibration(evidence, order),
        "description": description,
        "pictures": {
            "comparison": _pictures(reports / "comparison"),
            "corpus": _pictures(reports / "corpus"),
            "explanation": _pictures(explanation, "occlusion.png") + _pictures(explanation, "embeddings.png"),
            "errors": _pictures(explanation, "errors.png"),
            **{
                name: [
                    picture(path, f"{protocol}: {_CAPTIONS[name]}")
                    for protocol in order
                    for path in sorted((reports / "protocols" / protocol).glob(f"{name}.png"))
                ]
                for name in ("confusion", "curves", "reliability", "risk_coverage")
            },
        },
        "explanation": [
            _file(explanation / "network.csv", "Layers"),
            _file(
                explanation / "neighbours.csv", "Share of utterances whose nearest neighbour in the last layer has …"
            ),
        ],
        "errors": _file(explanation / "errors.csv", "Most confident errors by protocol"),
        "label_issues": _label_issues(reports / "baselines" / "label_issues.csv"),
        "others": _others(reports),
        "provenance": Table(
            "Digests",
            ["", "SHA-256"],
            [["package", package.digest], *sorted([name, digest] for name, digest in description.lineage.items())],
        ),
    }


def _place(protocol: str) -> int:
    """Return the position of a protocol on the page, the most important first."""
    return list(model_card.QUESTIONS).index(protocol)


def _comparison(folder: Path, *, chance: float) -> list[Table]:
    """Return the model beside the best baseline, the UAR of all models, and every metric; empty without test parts."""
    if not (folder / "table.csv").is_file():
        return []
    table = pd.read_csv(folder / "table.csv", dtype={"fold": str})
    table["title"] = ["this model" if name == MODEL else DESCRIPTIONS.get(name, name) for name in table["name"]]
    whole = table[table["fold"].isin(["all", "mean"])]
    protocols = sorted(set(whole["protocol"]), key=_place)
    short = []
    for protocol in protocols:
        own = whole[whole["protocol"] == protocol].set_index("name")
        baselines = own.drop(index=[MODEL, "shuffled"], errors="ignore")
        best = baselines.loc[baselines["uar"].idxmax()]
        ahead = (best["model_ahead"], best["model_ahead_low"], best["model_ahead_high"])
        question = f"{protocol}: {model_card.QUESTIONS[protocol]}"
        short.append([question, _cell(own.loc[MODEL], "uar"), _cell(best, "uar"), best["title"], ahead, chance])
    every = [
        [title, *(_cell(rows.set_index("protocol").loc[name], "uar") for name in protocols)]
        for title, rows in whole.groupby("title", sort=False)
    ]
    details = [
        [row["protocol"], "" if row["fold"] == "all" else row["fold"], row["title"]]
        + [_cell(row, metric) for metric in HEADLINES]
        + [_cell(row, "model_ahead"), row["p"]]
        for _, row in table.iterrows()
    ]
    columns = ["protocol", "this model", "best simple baseline", "which", "model ahead by", "chance"]
    names = ["protocol", "left out", "model", *(_NAMES[metric] for metric in HEADLINES), "model ahead by (UAR)", "p"]
    return [
        Table("UAR of this model and of the best baseline", columns, short),
        Table("UAR of every model", ["model", *protocols], every),
        Table("Every metric by fold", names, details),
    ]


def _cell(row: pd.Series, metric: str) -> tuple[float, float, float] | None:
    value = float(row[metric])
    return None if value != value else (value, float(row[f"{metric}_low"]), float(row[f"{metric}_high"]))


def _recalls(evidence: Mapping[str, Any], order: Sequence[str], labels: Sequence[str]) -> Table:
    rows = [
        [protocol, "" if fold == "all" else fold, *(scores["recall"].get(label) for label in labels), scores["uar"]]
        for protocol in order
        for fold, scores in evidence[protocol]["folds"].items()
    ]
    return Table("Recall by speaker and emotion", ["protocol", "left out", *map(_words, labels), "UAR"], rows)


def _calibration(evidence: Mapping[str, Any], order: Sequence[str]) -> Table:
    """Return calibration by fold, and coverage and risk at the threshold of "not sure"."""

    def cell(place: Mapping[str, Any] | None, metric: str) -> tuple[float, float, float] | None:
        value = place and place.get(metric)
        return None if not place or value is None else (value, *astuple(Interval.from_list(place["interval"][metric])))

    rows = []
    for protocol in order:
        folds = dict(evidence[protocol]["folds"])
        for fold, found in (folds | {"mean": evidence[protocol]["mean"]} if len(folds) > 1 else folds).items():
            scores = [cell(found.get("uncalibrated"), "ece"), *(cell(found, name) for name in ("ece", "nll", "brier"))]
            rejection = [cell(found.get("rejection"), name) for name in ("coverage", "risk")]
            rows.append([protocol, "" if fold == "all" else fold, *scores, *rejection])
    columns = ["protocol", "left out", "ECE before calibration", "ECE", "NLL", "Brier", "coverage", "risk"]
    return Table("Calibration", columns, rows)


def _label_issues(path: Path) -> Table:
    table = _read(path)
    rows = table.head(10)
    title = f"{int(table['suspected'].sum())} suspected labels; the {len(rows)} least certain"
    columns = ["id", "given", "predicted", "p_given", "p_predicted"]
    return Table(title, [_words(name) for name in columns], rows[columns].astype(object).to_numpy().tolist())


def _others(reports: Path) -> list[tuple[str, list[Table], list[Picture]]]:
    """Return the tables and figures of each further folder, such as `robustness`."""
    known = {"protocols", "comparison", "corpus", "explanation", "baselines"}
    found = []
    for folder in sorted(path for path in reports.iterdir() if path.is_dir() and path.name[0] != "."):
        if folder.name not in known:
            tables = [_file(path, _words(path.stem)) for path in sorted(folder.glob("*.csv"))]
            short = [table for table in tables if len(table.rows) <= _LONGEST]
            found.append((_words(folder.name), short, _pictures(folder)))
    return [one for one in found if one[1] or one[2]]


def _file(path: Path, title: str) -> Table:
    table = _read(path)
    return Table(title, [_words(name) for name in table.columns], table.astype(object).to_numpy().tolist())


def _read(path: Path) -> pd.DataFrame:
    """Read a table of a report, with readable labels; columns that hold only numbers become numbers."""
    table = pd.read_csv(path, dtype={"id": str, "text": str, "fold": str, "speaker": str}, keep_default_na=False)
    labels = [name for name in ("emotion", "prediction", "given", "predicted", "detail") if name in table]
    return table.assign(**{name: [_words(str(value)) for value in table[name]] for name in labels})


def _pictures(folder: Path, pattern: str = "*.png") -> list[Picture]:
    return [picture(path, _caption(path)) for path in sorted(folder.glob(pattern))]


def _caption(path: Path) -> str:
    key = f"{path.parent.name}/{path.stem}"
    return _CAPTIONS.get(key) or _CAPTIONS.get(path.stem) or _words(key.replace("/", ": "))


def _words(label: str) -> str:
    return label.replace("_", " ")


_NAMES: Final = {
    "uar": "UAR",
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
}

_CAPTIONS: Final[Mapping[str, str]] = {
    "table": "UAR of every model by protocol, with 95 % intervals; chance is dotted.",
    "recall": "Recall of each emotion, by protocol and speaker.",
    "confusion": "true label (rows) and prediction (columns), in percent.",
    "curves": "loss and accuracy by epoch, on the training part (solid) and the validation part (dashed).",
    "reliability": "accuracy by confidence; on the diagonal, confidence is calibrated.",
    "risk_coverage": "share of wrong predictions when only the most confident ones are kept.",
    "robustness/table": "UAR of modified recordings, with 95 % intervals.",
    "corpus/utterances": "One utterance of each emotion: waveform, spectrogram, MFCC.",
    "counts": "Utterances of each emotion.",
    "confounds": "Level and duration by emotion and speaker.",
    "occlusion": "Log-odds lost when a tenth of each utterance (left) or a group of features (right) is hidden, by "
    "predicted emotion; red supported the prediction. c1, c2, … are cepstral coefficients, from the broad shape of the "
    "spectrum to its fine structure. Alpha ratio: energy from 1 to 5 kHz relative to that below 1 kHz, in dB.",
    "embeddings": "Nearby points are similar; long distances have no meaning.",
    "errors": "The most confident errors, each kind first.",
    "tuning/optimization_history": "UAR on the validation part by trial, and the best so far.",
    "tuning/param_importances": "Share of the differences between trials that each hyperparameter explains (fANOVA).",
    "tuning/parallel_coordinate": "Every completed trial as a line through its hyperparameters; darker is better.",
    "tuning/slice": "UAR by hyperparameter; darker is later.",
    "tuning/timeline": "When each trial ran, and how it ended.",
    "tuning/intermediate_values": "UAR of each trial by epoch, the mean over the folds trained so far. Trials that end "
    "early were pruned.",
    "tuning/pareto_front": "UAR against the second objective; the best trade-offs are marked.",
}
