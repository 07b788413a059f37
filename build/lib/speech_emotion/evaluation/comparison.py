"""Compare the model with every baseline: a table of metrics with intervals, by protocol."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, replacing_folder, write_text
from speech_emotion.evaluation import plots
from speech_emotion.evaluation.bootstrap import Difference, Interval, Predictions, pooled_differences, pooled_intervals
from speech_emotion.evaluation.metrics import HEADLINES, mean_of, metrics
from speech_emotion.evaluation.protocol_report import METRICS, PREDICTIONS, as_predictions, recalls, rounded
from speech_emotion.models.baselines import DESCRIPTIONS

MODEL: Final = "model"
"""Name of the model among the baselines."""

RECALL_COLUMNS: Final = ("protocol", "fold", "name", "speaker", "emotion", "utterances", "recall", "low", "high")


_COLUMNS: Final = ("uar", *(metric for metric in HEADLINES if metric != "uar"))


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    protocol : str
    fold : str
        A fold's name, or "mean" over the folds of a protocol that has several.
    name : str
        A baseline, or `MODEL`.
    repeats : int
        Number of repeats.
    metrics : mapping of str to float
        The headline metrics.
    interval : mapping of str to (float, float)
        Their 95 % intervals.
    behind : Difference or None
        UAR of the model minus that of this row, on the same utterances; None for the model itself.
    labels : tuple of str
    uncalibrated : (float, Interval) or None
        Calibration error before calibration; None for baselines.
    """

    protocol: str
    fold: str
    name: str
    repeats: int
    metrics: Mapping[str, float]
    interval: Mapping[str, tuple[float, float]]
    behind: Difference | None
    labels: tuple[str, ...]
    uncalibrated: tuple[float, Interval] | None

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        row: dict[str, Any] = {"protocol": self.protocol, "fold": self.fold, "name": self.name}
        for metric in HEADLINES:
            row[metric] = self.metrics[metric]
            row[f"{metric}_low"], row[f"{metric}_high"] = self.interval[metric]
        if self.uncalibrated is not None:
            value, interval = self.uncalibrated
            row |= {
                "ece_uncalibrated": value,
                "ece_uncalibrated_low": interval.low,
                "ece_uncalibrated_high": interval.high,
            }
        if self.behind is not None:
            row |= {
                "model_ahead": self.behind.value,
                "model_ahead_low": self.behind.interval.low,
                "model_ahead_high": self.behind.interval.high,
                "p": self.behind.p,
            }
        return rounded(row)


@dataclass(frozen=True)
class Contest:
    """What every model answered to a protocol's judged utterances, in one order.

    Attributes
    ----------
    protocol : str
    labels : tuple of str
    answers : mapping of str to sequence of mapping of str to Predictions
        By model: its repeats, by fold. All but the shuffled-label control have one.
    uncalibrated : mapping of str to (float, Interval)
        The model's calibration error before calibration, by fold, and "mean".
    """

    protocol: str
    labels: tuple[str, ...]
    answers: Mapping[str, Sequence[Mapping[str, Predictions]]]
    uncalibrated: Mapping[str, tuple[float, Interval]]


def read_contest(protocol: str, report: Path, baselines: Path) -> Contest:
    """Read the predictions of the model and of every baseline.

    Parameters
    ----------
    protocol : str
    report : Path
        The protocol's report, with the model's predictions.
    baselines : Path
        The baselines' predictions for the same split.

    Raises
    ------
    UserError
        They have different utterances.
    """
    model = pd.read_csv(report / PREDICTIONS, dtype={"text": str, "fold": str}, keep_default_na=False)
    labels = tuple(name.removeprefix("p_") for name in model.columns if name.startswith("p_"))
    known = model.set_index(["fold", "id"])[["speaker", "emotion", "text"]]
    answers = {MODEL: [_by_fold(model, labels)]}
    table = pd.read_csv(baselines, dtype={"fold": str}, keep_default_na=False)
    for (name, _), rows in table.groupby(["baseline", "repeat"], sort=False):
        renamed = rows.rename(columns={label: f"p_{label}" for label in labels}).set_index(["fold", "id"])
        if len(renamed) != len(known) or not renamed.index.isin(known.index).all():
            raise UserError(f"{baselines}: '{name}' has other utterances than {report}. Run `dvc repro`.")
        answers.setdefault(str(name), []).append(_by_fold(known.join(renamed).reset_index(), labels))
    return Contest(protocol, labels, answers, _uncalibrated(report))


def compare(contest: Contest, settings: EvaluateSettings) -> list[Row]:
    """Return the rows of every model: each fold and the mean over folds."""
    return [row for name in contest.answers for row in _rows(contest, name, settings)]


def recall_rows(contest: Contest, settings: EvaluateSettings) -> pd.DataFrame:
    """Return the recall of each emotion and speaker, for every model without repeats.

    Returns
    -------
    pd.DataFrame [columns=(protocol, fold, name, speaker, emotion, utterances, recall, low, high)]
        See `protocol_report.recalls`.
    """
    tables = [
        recalls(fold, contest.labels, settings).assign(protocol=contest.protocol, fold=scope, name=name)
        for name, repeats in contest.answers.items()
        if len(repeats) == 1
        for scope, fold in repeats[0].items()
    ]
    return pd.concat(tables, ignore_index=True)[list(RECALL_COLUMNS)]


def _rows(contest: Contest, name: str, settings: EvaluateSettings) -> list[Row]:
    repeats, bins = contest.answers[name], settings.calibration_bins
    drawing = {"bins": bins, "resamples": settings.bootstrap.resamples, "seed": settings.bootstrap.seed}
    scopes: dict[str, Sequence[str]] = {fold: [fold] for fold in repeats[0]}
    if len(scopes) > 1:
        scopes["mean"] = list(repeats[0])
    rows = []
    for scope, members in scopes.items():
        chosen = [[folds[one] for one in members] for folds in repeats]
        scores = mean_of(
            [metrics(one.truth, one.probabilities, contest.labels, bins=bins) for folds in chosen for one in folds]
        )
        interval = pooled_intervals(chosen, **drawing)
        behind = None
        if name != MODEL:
            ours = [contest.answers[MODEL][0][one] for one in members]
            behind = pooled_differences(ours, chosen, **drawing)["uar"]
        rows.append(
            Row(
                contest.protocol,
                scope,
                name,
                len(repeats),
                {metric: rounded(scores[metric]) for metric in HEADLINES},
                {metric: (rounded(interval[metric].low), rounded(interval[metric].high)) for metric in HEADLINES},
                behind,
                contest.labels,
                contest.uncalibrated[scope] if name == MODEL else None,
            )
        )
    return rows


def markdown(rows: Sequence[Row], descriptions: Mapping[str, str]) -> str:
    """Return the table as Markdown: every metric with its interval, one row per model and fold."""
    lines = [
        "Each figure with its 95 % interval; ECE also before calibration.",
        "",
        "| protocol | left out | model | UAR | accuracy | macro-F1 | NLL | Brier | ECE | model ahead by (UAR) |",
        "|---" * 10 + "|",
    ]
    for row in rows:
        left_out = {"all": "", "mean": "mean"}.get(row.fold, row.fold)
        ahead = ""
        if row.behind is not None:
            ahead = f"{row.behind.value:+.3f} ({row.behind.interval.text('+.3f')})"
        before = ""
        if row.uncalibrated is not None:
            value, interval = row.uncalibrated
            before = f"; before {_figure(value, interval.low, interval.high)}"
        figures_of = [_figure(row.metrics[metric], *row.interval[metric]) for metric in _COLUMNS]
        name = _title(row, descriptions)
        lines.append(f"| {row.protocol} | {left_out} | {name} | {' | '.join(figures_of)}{before} | {ahead} |")
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[Row], descriptions: Mapping[str, str]) -> str:
    """Return the table of the README: a row per protocol with the UAR of the model, the best baseline and chance."""
    lines = ["| split | this model | best simple baseline | chance |", "|---|---|---|---|"]
    for protocol in dict.fromkeys(row.protocol for row in rows):
        own = {row.name: row for row in rows if row.protocol == protocol and row.fold in {"all", "mean"}}
        baselines = [row for name, row in own.items() if name not in {MODEL, "shuffled"}]
        best = max(baselines, key=lambda row: row.metrics["uar"])
        figures = [_figure(row.metrics["uar"], *row.interval["uar"]) for row in (own[MODEL], best)]
        lines.append(
            f"| {_SPLITS.get(protocol, protocol)} | {figures[0]} | {figures[1]}, {descriptions[best.name]} "
            f"| {1 / len(best.labels):.3f} |"
        )
    return "\n".join(lines) + "\n"


_SPLITS: Final = {"random": "random", "word": "word (unseen words)", "speaker": "**speaker (unseen speaker)**"}


def _figure(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({Interval(low, high).text()})"


def _title(row: Row, descriptions: Mapping[str, str]) -> str:
    """Return the title of a row."""
    if row.name == MODEL:
        return "**this model**"
    repeated = f": mean and range of {row.repeats} shuffles" if row.repeats > 1 else ""
    return descriptions[row.name] + repeated


def recall_markdown(recall: pd.DataFrame) -> str:
    """Return the recall of the model as Markdown: one row per protocol, fold and speaker."""
    own = recall[recall["name"] == MODEL]
    emotions = [one for one in dict.fromkeys(own["emotion"]) if one]
    lines = [
        f"| protocol | left out | speaker | UAR (95 %) | {' | '.join(name.replace('_', ' ') for name in emotions)} |",
        "|---" * (len(emotions) + 4) + "|",
    ]
    for key, rows in own.groupby(["protocol", "fold", "speaker"], sort=False):
        protocol, fold, speaker = map(str, key)
        by_emotion = rows.set_index("emotion")
        uar = by_emotion.loc[""]
        cells = [f"{float(by_emotion['recall'][name]):.3f}" if name in by_emotion.index else "" for name in emotions]
        left_out = "" if fold == "all" else fold
        lines.append(
            f"| {protocol} | {left_out} | {speaker or 'all'} | {uar['recall']:.3f} ({uar['low']:.3f} to "
            f"{uar['high']:.3f}) | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def write_comparison(
    protocols: Sequence[str],
    *,
    reports: Path,
    baselines: Path,
    settings: EvaluateSettings,
    target: Path,
    corpus: str,
) -> None:
    """Compare the model with every baseline on each protocol and write the folder `target`; see `write_table`.

    Parameters
    ----------
    protocols : sequence of str
    reports, baselines : Path
        Folders of the protocols' reports and of the baselines' predictions.
    settings : EvaluateSettings
    target : Path
    corpus : str
    """
    contests = [read_contest(name, reports / name, baselines / f"{name}.csv") for name in protocols]
    rows = [row for contest in contests for row in compare(contest, settings)]
    recall = [recall_rows(contest, settings) for contest in contests]
    empty = pd.DataFrame(columns=list(RECALL_COLUMNS))
    write_table(rows, pd.concat([empty, *recall], ignore_index=True) if recall else empty, target, corpus=corpus)


def write_table(rows: Sequence[Row], recall: pd.DataFrame, target: Path, *, corpus: str) -> None:
    """Write the comparison; without rows, only a `table.md` that says so.

    Parameters
    ----------
    rows : sequence of Row
    recall : pd.DataFrame
        From `recall_rows`, of all protocols.
    target : Path
        The folder to write: `table.csv`, `table.md`, `summary.md`, `table.png`, `recall.csv`, `recall.png`.
    corpus : str
    """
    with replacing_folder(target) as folder:
        if not rows:
            write_text(
                folder / "table.md", "No protocol of this corpus has a test part, so there is nothing to compare.\n"
            )
            return
        table = pd.DataFrame([row.as_dict() for row in rows])
        with replacing(folder / "table.csv") as aside:
            table.to_csv(aside, index=False, lineterminator="\n")
        with replacing(folder / "recall.csv") as aside:
            recall.to_csv(aside, index=False, lineterminator="\n", float_format="%.6f")
        below = "Recall of this model by speaker:"
        write_text(folder / "table.md", f"{markdown(rows, DESCRIPTIONS)}\n{below}\n\n{recall_markdown(recall)}")
        write_text(folder / "summary.md", summary(rows, DESCRIPTIONS))
        panels = {"all": "{protocol}", "mean": "{protocol}: mean"}
        drawn = table.assign(
            panel=[panels.get(row.fold, "{protocol}: without {fold}").format(**vars(row)) for row in rows],
            name=[_TICKS[row.name] for row in rows],
            chance=1 / max(2, len(rows[0].labels)),
        )
        plots.protocol_table(
            folder / "table.png",
            drawn,
            names=[_TICKS[name] for name in dict.fromkeys(table["name"])],
            title=f"{corpus}: unweighted average recall on the test part, 95 % intervals, chance dotted",
        )
        plots.recall_table(
            folder / "recall.png", _recall_panel(recall), title=f"{corpus}: recall of this model on the test part"
        )


def _recall_panel(recall: pd.DataFrame) -> pd.DataFrame:
    """Return the recall of the model: a row per protocol and speaker, a column per emotion, the average first."""
    own = recall[recall["name"] == MODEL]
    keys = zip(own["protocol"], own["fold"], own["speaker"], strict=True)
    titles = [
        f"{protocol}, {speaker or 'all speakers'}" + (" left out" if fold == speaker else "")
        for protocol, fold, speaker in keys
    ]
    table = own.assign(row=titles, column=[name.replace("_", " ") or "average" for name in own["emotion"]])
    panel = table.pivot_table(index="row", columns="column", values="recall", sort=False)
    rows, columns = list(dict.fromkeys(titles)), list(dict.fromkeys(table["column"]))
    return panel.reindex(index=rows, columns=columns)


_TICKS: Final[Mapping[str, str]] = {
    MODEL: "this model",
    "majority": "majority",
    "shuffled": "shuffled labels",
    "shortcut": "level, peak, duration",
    "logistic": "mean MFCC + LR",
    "svm": "mean MFCC + SVM",
    "svm_mean_std": "mean, std MFCC + SVM",
    "reference": "reference model",
}


def _by_fold(rows: pd.DataFrame, labels: tuple[str, ...]) -> dict[str, Predictions]:
    return {str(fold): as_predictions(part, labels) for fold, part in rows.groupby("fold", sort=True)}


def _uncalibrated(report: Path) -> dict[str, tuple[float, Interval]]:
    content = json.loads((report / METRICS).read_text(encoding="utf-8"))
    places = {**content["folds"], "mean": content["mean"]}
    found = {name: place["uncalibrated"] for name, place in places.items()}
    return {name: (one["ece"], Interval.from_list(one["interval"]["ece"])) for name, one in found.items()}
