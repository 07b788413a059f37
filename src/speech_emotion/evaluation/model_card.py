"""Write the model card (Mitchell et al., 2019, "Model cards for model reporting").

Every figure comes from the evaluation results in the package. Equal values give equal text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import jinja2
import pandas as pd

from speech_emotion.config.data import CorpusName
from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.tables import read_table
from speech_emotion.data.corpora import facts
from speech_emotion.data.splits import TEST
from speech_emotion.evaluation import comparison
from speech_emotion.evaluation.bootstrap import MANY, Interval
from speech_emotion.evaluation.enrolment import CONDITIONS, NONE
from speech_emotion.evaluation.metrics import ALL
from speech_emotion.features.mfcc import names
from speech_emotion.models.package import Description

CARD: Final = "MODEL_CARD.md"
"""File name in a package."""

ROBUSTNESS: Final = "robustness"
"""Name of the robustness results among those of a package."""

ORDER: Final = ("speaker", "corpus", "word", "random", "full")
"""Protocols, the most important first."""

Evaluation = Mapping[str, Mapping[str, Any]]
"""The metrics of each protocol, as in metrics.json, and the robustness results."""

_TRUST: Final = {
    "Calibration error (ECE), and coverage at a risk of 20 %": {"ECE": "ece", "coverage": "coverage_at_20_risk"},
    "Share of answers given, and the right ones of these": {"given": "answered", "right": "answered_right"},
}
"""Tables of a mix, with their metrics by title."""

_FEW: Final = "3 neutral"

_METRICS: Final = ("uar", "accuracy", "macro_f1", "nll", "brier", "ece")


@dataclass(frozen=True)
class Table:
    """A table of texts, numbers, intervals (value, low, high) and empty cells (None)."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class MainResult:
    """A main result: a question, the figure that answers it, what the figure is, and further sentences."""

    question: str
    value: str
    text: str
    notes: list[str]


def read_evaluation(
    protocols: Path, robustness: Path, baselines: Path, settings: EvaluateSettings
) -> dict[str, dict[str, Any]]:
    """Read the metrics by protocol and, as `ROBUSTNESS`, UAR and drop by protocol and condition.

    Of a mix, `baseline` is the best baseline of each corpus and sex.
    """
    # a killed evaluate leaves a folder that begins with a dot
    evaluation: dict[str, dict[str, Any]] = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(protocols.glob("[!.]*/metrics.json"))
    }
    for name, report in evaluation.items():
        if "corpora" in report and (file := baselines / f"{name}.csv").is_file():
            table = comparison.by_slice(comparison.read_model_predictions(name, protocols / name, file), settings)
            for one in report["corpora"]:
                own = (table["corpus"] == one["corpus"]) & (table["sex"] == one["sex"])
                best = comparison.best_baseline(table[own])
                one["baseline"] = {"name": str(best["name"]), "uar": round(float(best["uar"]), 6)}
    evaluation[ROBUSTNESS] = {
        str(protocol): rows.set_index("condition")[["uar", "drop"]].to_dict("index")
        for protocol, rows in read_table(robustness / "table.csv").groupby("protocol", sort=False)
    }
    return evaluation


def write(
    description: Description,
    evaluation: Evaluation,
    *,
    kind: CorpusName,
    training: Mapping[str, float],
    corpora: Sequence[str] = (),
    altered: bool = False,
) -> str:
    """Return the model card as Markdown; `evaluation` is from `read_evaluation`, `training` from training.json.

    `altered` says that the recordings may differ from the originals (`corpus.checksums: ignore`).
    """
    ordered = in_order(evaluation)
    template = environment().get_template("model_card.md.j2")
    return template.render(
        description=description,
        facts=facts(kind, corpora),
        resampled=resampled(evaluation, kind),
        tested=evaluation.get("full", {}).get("part") == TEST,
        altered=altered,
        corpora=by_corpus(evaluation),
        unseen_speakers=unseen_speakers(evaluation),
        findings=findings(description, evaluation, kind),
        features=len(names(description.features)),
        frame_ms=1000 * description.features.hop_length / description.features.sample_rate,
        training=training,
        metrics=[
            [name, question(name, report, kind), *(_with_interval(report["mean"], metric) for metric in _METRICS)]
            for name, report in ordered
        ],
        recalls=[
            [name, _left_out(fold, scores), *(_recall(scores["recall"], one) for one in description.labels)]
            for name, report in ordered
            for fold, scores in report["folds"].items()
        ],
        robustness=[
            [name, condition, f"{figures['uar']:.3f}", f"{figures['drop']:.3f}"]
            for name, conditions in evaluation.get(ROBUSTNESS, {}).items()
            for condition, figures in conditions.items()
        ],
    )


def environment() -> jinja2.Environment:
    """Return the environment of this package's templates; values are escaped in HTML, not in Markdown."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("speech_emotion", "evaluation"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    found.filters["words"] = _words
    found.filters["grid"] = as_markdown
    return found


def findings(description: Description, evaluation: Evaluation, kind: CorpusName) -> list[MainResult]:
    """Answer how good the model is, for whom, and how far its confidence can be trusted.

    The most important protocol that was evaluated is reported: an unseen speaker, if there is one.
    """
    [(name, report), *others] = in_order(evaluation)
    mean, folds, first = overall(report), report["folds"], (name, report)
    together = "all folds together" if "corpora" in report else f"mean of {len(folds)} folds"
    folds_text = f", {together}" if len(folds) > 1 else ""
    label, recalls = worst_emotion(report)
    good = [f"{_interval(mean, 'uar')}.", f"Guessing reaches {_percent(1 / len(description.labels))}."]
    whom = [f"Lowest recall by fold: {_words(label)}, {_by_fold(recalls)}."]
    confident = [f"{_interval(mean, 'ece')}."]
    if name == "speaker":
        speakers = {key: one["uar"] for fold in folds.values() for key, one in fold["speakers"].items()}
        single = {key: fold["uar"] for key, fold in folds.items()}
        if _many(report):
            good.append(f"The interval resamples the speakers, {len(speakers)} in all.")
        else:
            good.append(
                f"The interval covers the {noun(kind)} of {max(len(speakers), len(folds))} speakers, not the "
                "difference between speakers."
            )
        whom.insert(0, f"By speaker: {_by_fold(speakers if len(speakers) > len(folds) else single)}.")
        first = next((one for one in others if one[0] != "full"), first)
        if first[0] != "speaker":
            confident.append(f"On {question(*first, kind)}: {_points(overall(first[1])['ece'])}.")
    else:
        whom.append("Unseen speakers are not evaluated.")
    return [
        MainResult("How good?", _percent(mean["uar"], 1), f"UAR on {question(name, report, kind)}{folds_text}", good),
        MainResult("For whom?", _percent(overall(first[1])["uar"], 1), f"UAR on {question(*first, kind)}", whom),
        MainResult(
            "How confident?",
            _points(mean["ece"]),
            f"gap between confidence and accuracy (ECE) on {question(name, report, kind)}",
            [*confident, *_above_threshold(folds)],
        ),
    ]


def overall(report: Mapping[str, Any], condition: str = NONE) -> Mapping[str, Any]:
    """Return the metrics of a protocol: of a mix, those of all predictions together, else the mean over folds."""
    for one in report.get("corpora", []):
        if (one["corpus"], one["sex"]) == (ALL, ALL):
            return {**one["scores"].get(condition, one["scores"][NONE]), "interval": one["interval"]}
    return dict(report["mean"])


def unseen_speakers(evaluation: Evaluation) -> Table | None:
    """Return the pooled UAR on unseen speakers of each corpus of a mix: by sex, with references, and of a baseline."""
    corpora = evaluation.get("speaker", {}).get("corpora", [])
    uars = {(one["corpus"], one["sex"]): one["scores"][NONE]["uar"] for one in corpora}
    rows = []
    for one in corpora:
        if one["sex"] == ALL:
            sexes = [uars.get((one["corpus"], sex)) for sex in ("female", "male")]
            enrolled = one["scores"].get(_FEW, {}).get("uar")
            baseline = one.get("baseline", {}).get("uar")
            rows.append([one["corpus"], 1 / one["labels"], baseline, uars[one["corpus"], ALL], *sexes, enrolled])
    columns = ["corpus", "chance", "best simple baseline", "this model", "women", "men", f"with {_FEW} recordings"]
    return Table("UAR on unseen speakers, all folds together", columns, rows) if rows else None


def question(protocol: str, report: Mapping[str, Any], kind: CorpusName) -> str:
    """Return what a protocol evaluates, by the shares of unseen speakers and texts in its split."""
    unseen = report["unseen"]
    if protocol == "full":
        return "the test speakers" if report.get("part") == TEST else "the validation part"
    if protocol == "corpus":
        return "an unseen corpus"
    if unseen["speaker"] == 1:
        return "an unseen speaker"
    seen = ["speakers"] if unseen["speaker"] == 0 else []
    if unseen["text"] == 1:
        what = f"unseen {noun(kind)}"
    else:
        what, seen = "other recordings", seen + ([noun(kind)] if unseen["text"] == 0 else [])
    return what + (f" of seen {' and '.join(seen)}" if seen else "")


def noun(kind: CorpusName) -> str:
    """Return what a text of the corpus is called: TESS differs in one word of its phrase."""
    return "words" if kind == "tess" else "texts"


def resampled(evaluation: Evaluation, kind: CorpusName) -> str:
    """Return what the intervals resample; see `bootstrap`."""
    within = f"{noun(kind)} within speaker"
    if not any(_many(report) for _, report in in_order(evaluation)):
        return within
    return f"speakers where there are {MANY} or more, else {within}"


def by_corpus(evaluation: Evaluation) -> list[Table]:
    """Return the results of a mix by corpus and sex, without and with references of the speaker, and how sure they are.

    There are no tables if the corpus is no mix.
    """
    reports = [(name, report) for name, report in in_order(evaluation) if "corpora" in report]
    measured = {name for _, report in reports for one in report["corpora"] for name in one["scores"]}
    conditions = [name for name in CONDITIONS if name in measured]

    def scores(one: Mapping[str, Any], metric: str) -> list[float | None]:
        return [one["scores"].get(each, {}).get(metric) for each in conditions]

    uars = []
    for name, report in reports:
        for one in report["corpora"]:
            plain, *enrolled = scores(one, "uar")
            model = (plain, *astuple(Interval.from_list(one["interval"]["uar"])))
            group = [name, one["corpus"], one["sex"], one["speakers"], 1 / one["labels"]]
            uars.append([*group, one.get("baseline", {}).get("uar"), model, *enrolled])
    references = ["", *(f", {one}" for one in conditions[1:])]
    columns = ["protocol", "corpus", "sex", "speakers", "chance", "best simple baseline"]
    found = [Table("UAR, without and with references", [*columns, *(f"UAR{one}" for one in references)], uars)]
    for title, metrics in _TRUST.items():
        columns = ["protocol", "corpus", *(f"{name}{one}" for name in metrics for one in references)]
        wholes = [(name, one) for name, report in reports for one in report["corpora"] if one["sex"] == ALL]
        rows = [[name, one["corpus"], *chain(*(scores(one, key) for key in metrics.values()))] for name, one in wholes]
        found.append(Table(f"{title}, without and with references", columns, rows))
    return found if reports else []


def as_markdown(table: Table) -> str:
    """Return a table as Markdown."""

    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return f"{value[0]:.3f} ({Interval(*value[1:]).text()})"
        return f"{value:.3f}" if isinstance(value, float) else str(value or "")

    rows = [table.columns, ["---"] * len(table.columns), *(list(map(text, row)) for row in table.rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def worst_emotion(report: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """Return the label of the lowest mean recall over a protocol's folds, and its recall in each."""
    folds = {name: fold["recall"] for name, fold in report["folds"].items()}
    worst = str(pd.DataFrame(folds).sort_index().mean(axis=1).idxmin())
    return worst, {name: recalls[worst] for name, recalls in folds.items() if worst in recalls}


def in_order(evaluation: Evaluation) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the protocols with their metrics, the most important first."""
    return [(name, evaluation[name]) for name in ORDER if name in evaluation]


def _many(report: Mapping[str, Any]) -> bool:
    """Return whether the intervals of a protocol resample speakers."""
    return any(len(fold["speakers"]) >= MANY for fold in report["folds"].values())


def _above_threshold(folds: Mapping[str, Any]) -> list[str]:
    """Return coverage and risk at the threshold of "not sure", as a sentence, if there is a threshold."""
    found = {name: fold["rejection"] for name, fold in folds.items() if fold.get("rejection")}
    if not found:
        return []
    risks = {name: one["risk"] for name, one in found.items() if one["risk"] is not None}
    wrong = f"; of these, {_by_fold(risks)} are wrong" if risks else ""
    coverage = _by_fold({name: one["coverage"] for name, one in found.items()})
    return [f"Predictions above the threshold, by fold: {coverage}{wrong}."]


def _with_interval(mean: Mapping[str, Any], metric: str) -> str:
    return f"{mean[metric]:.3f} ({Interval.from_list(mean['interval'][metric]).text()})"


def _left_out(fold: str, scores: Mapping[str, Any]) -> str:
    """Return whom a fold leaves out: a speaker, a corpus, or a numbered group of speakers."""
    if not fold.isdigit():
        return "" if fold == "all" else fold
    speakers = list(scores["speakers"])
    return speakers[0] if len(speakers) == 1 else f"group {fold}, {len(speakers)} speakers"


def _recall(recalls: Mapping[str, float], label: str) -> str:
    return f"{recalls[label]:.2f}" if label in recalls else ""


def _by_fold(values: Mapping[str, float]) -> str:
    if len(values) > 4:
        return f"{_percent(min(values.values()))} to {_percent(max(values.values()))}"
    if len(values) == 1:
        return _percent(next(iter(values.values())))
    return " and ".join(f"{_percent(value)} ({name})" for name, value in values.items())


def _percent(share: float, decimals: int = 0) -> str:
    return f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


def _points(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}points"


def _interval(mean: Mapping[str, Any], metric: str) -> str:
    """Return the interval of a metric in percent, as a sentence without its stop."""
    interval = Interval.from_list(mean["interval"][metric])
    if not interval.is_known:
        return "No interval: each speaker has a single text"
    return f"95 % interval {interval.text('.1%').replace('%', '')}"


def _words(label: str) -> str:
    return label.replace("_", " ")
