"""Takes the predictions of the model and of every baseline; gives one table: protocol by model, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from speech_emotion import figures
from speech_emotion.baselines import DESCRIPTIONS
from speech_emotion.bootstrap import Difference, Predictions, differences
from speech_emotion.errors import UserError
from speech_emotion.evaluation import HEADLINES
from speech_emotion.files import replacing, replacing_folder, write_text
from speech_emotion.report import PREDICTIONS, as_predictions, rounded, summarize
from speech_emotion.settings.evaluate import EvaluateSettings

MODEL: Final = "model"
"""The name of this project's model among the baselines."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    protocol : str
    fold : str
        A fold's name, or "mean" over the folds of a protocol that has several.
    name : str
        A baseline, or `MODEL`.
    metrics : mapping of str to float
        The headline metrics.
    interval : mapping of str to (float, float)
        Their 95 % intervals.
    behind : Difference or None
        The UAR of the model less this one's, on the same utterances; None for the model itself.
    labels : tuple of str
    """

    protocol: str
    fold: str
    name: str
    metrics: Mapping[str, float]
    interval: Mapping[str, tuple[float, float]]
    behind: Difference | None
    labels: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        row: dict[str, Any] = {"protocol": self.protocol, "fold": self.fold, "name": self.name}
        for metric in HEADLINES:
            row[metric] = self.metrics[metric]
            row[f"{metric}_low"], row[f"{metric}_high"] = self.interval[metric]
        if self.behind is not None:
            row |= {
                "model_ahead": self.behind.value,
                "model_ahead_low": self.behind.interval.low,
                "model_ahead_high": self.behind.interval.high,
                "p": self.behind.p,
            }
        return rounded(row)


def compare(protocol: str, report: Path, baselines: Path, settings: EvaluateSettings) -> list[Row]:
    """Compare the model with every baseline on one protocol.

    Parameters
    ----------
    protocol : str
    report : Path
        The protocol's report, with the model's predictions.
    baselines : Path
        The baselines' predictions for the same split.
    settings : EvaluateSettings

    Raises
    ------
    UserError
        The two are not about the same utterances.
    """
    model = pd.read_csv(report / PREDICTIONS, dtype={"text": str, "fold": str}, keep_default_na=False)
    labels = tuple(name.removeprefix("p_") for name in model.columns if name.startswith("p_"))
    known = model.set_index(["fold", "id"])[["speaker", "emotion", "text"]]
    contenders = {MODEL: model}
    for name, rows in pd.read_csv(baselines, dtype={"fold": str}, keep_default_na=False).groupby(
        "baseline", sort=False
    ):
        renamed = rows.rename(columns={label: f"p_{label}" for label in labels}).set_index(["fold", "id"])
        if len(renamed) != len(known) or not renamed.index.isin(known.index).all():
            raise UserError(f"{baselines}: '{name}' is about other utterances than {report}. Run `dvc repro`.")
        contenders[str(name)] = known.join(renamed).reset_index()
    found = {name: _by_fold(rows) for name, rows in contenders.items()}
    return [row for name in found for row in _rows(protocol, name, found, labels, settings)]


def _rows(
    protocol: str,
    name: str,
    found: Mapping[str, Mapping[str, pd.DataFrame]],
    labels: tuple[str, ...],
    settings: EvaluateSettings,
) -> list[Row]:
    folds = found[name]
    summary = summarize(folds, labels, settings)
    scopes: dict[str, Sequence[str]] = {fold: [fold] for fold in folds}
    if len(folds) > 1:
        scopes["mean"] = list(folds)
    rows = []
    for scope, members in scopes.items():
        scores = summary["mean"] if scope == "mean" else summary["folds"][scope]
        behind = None
        if name != MODEL:
            ours, theirs = (_predictions(found[one], members, labels) for one in (MODEL, name))
            behind = differences(
                ours,
                theirs,
                bins=settings.calibration_bins,
                resamples=settings.bootstrap.resamples,
                seed=settings.bootstrap.seed,
            )["uar"]
        interval = {metric: tuple(scores["interval"][metric]) for metric in HEADLINES}
        headlines = {metric: scores[metric] for metric in HEADLINES}
        rows.append(Row(protocol, scope, name, headlines, interval, behind, labels))
    return rows


def markdown(rows: Sequence[Row], descriptions: Mapping[str, str]) -> str:
    """Return the table as Markdown: UAR with its interval, and calibration error, a line a model."""
    lines = [
        "| protocol | left out | model | UAR (95 %) | accuracy | ECE | model ahead by (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row.interval["uar"]
        left_out = {"all": "", "mean": "mean"}.get(row.fold, row.fold)
        ahead = ""
        if row.behind is not None:
            ahead = f"{row.behind.value:+.3f} ({row.behind.interval.low:+.3f} to {row.behind.interval.high:+.3f})"
        name = "**this model**" if row.name == MODEL else descriptions[row.name]
        lines.append(
            f"| {row.protocol} | {left_out} | {name} | {row.metrics['uar']:.3f} ({low:.3f} to {high:.3f}) "
            f"| {row.metrics['accuracy']:.3f} | {row.metrics['ece']:.3f} | {ahead} |"
        )
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[Row], descriptions: Mapping[str, str]) -> str:
    """Return a line a model and a column a protocol: UAR with its interval, the mean over the folds."""
    whole = [row for row in rows if row.fold in {"all", "mean"}]
    protocols = list(dict.fromkeys(row.protocol for row in whole))
    cells = {(row.name, row.protocol): row for row in whole}
    lines = [f"| UAR (95 %) | {' | '.join(protocols)} |", "|---" * (len(protocols) + 1) + "|"]
    for name in dict.fromkeys(row.name for row in whole):
        shown = [cells[name, protocol] for protocol in protocols]
        values = [
            f"{row.metrics['uar']:.3f} ({row.interval['uar'][0]:.3f} to {row.interval['uar'][1]:.3f})" for row in shown
        ]
        title = "**this model**" if name == MODEL else descriptions[name]
        lines.append(f"| {title} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def write_table(rows: Sequence[Row], target: Path, *, corpus: str) -> None:
    """Write `table.csv`, `table.md`, `summary.md` and `table.png`; without rows, a `table.md` that says so."""
    with replacing_folder(target) as folder:
        if not rows:
            write_text(
                folder / "table.md", "No protocol of this corpus has a test part, so there is nothing to compare.\n"
            )
            return
        table = pd.DataFrame([row.as_dict() for row in rows])
        with replacing(folder / "table.csv") as aside:
            table.to_csv(aside, index=False, lineterminator="\n")
        write_text(folder / "table.md", markdown(rows, DESCRIPTIONS))
        write_text(folder / "summary.md", summary(rows, DESCRIPTIONS))
        panels = {"all": "{protocol}", "mean": "{protocol}: mean"}
        drawn = table.assign(
            panel=[panels.get(row.fold, "{protocol}: without {fold}").format(**vars(row)) for row in rows],
            name=[_TICKS[row.name] for row in rows],
            chance=1 / max(2, len(rows[0].labels)),
        )
        figures.protocol_table(
            folder / "table.png",
            drawn,
            names=[_TICKS[name] for name in dict.fromkeys(table["name"])],
            title=f"{corpus}: unweighted average recall on the test part, 95 % intervals, chance dotted",
        )


_TICKS: Final[Mapping[str, str]] = {
    MODEL: "this model",
    "majority": "majority",
    "shuffled": "shuffled labels",
    "shortcut": "level, peak, duration",
    "logistic": "mean MFCC + LR",
    "svm": "mean MFCC + SVM",
    "reference": "reference model",
}


def _by_fold(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(fold): part.reset_index(drop=True) for fold, part in rows.groupby("fold", sort=True)}


def _predictions(
    folds: Mapping[str, pd.DataFrame], members: Sequence[str], labels: tuple[str, ...]
) -> list[Predictions]:
    return [as_predictions(folds[fold], labels) for fold in members]
