"""Compare the model with every baseline: metrics with intervals, by protocol and fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, replacing_folder, write_text
from speech_emotion.core.tables import read_table, write_table
from speech_emotion.evaluation import enrolment, plots
from speech_emotion.evaluation.bootstrap import Interval, Predictions, differences, intervals
from speech_emotion.evaluation.metrics import HEADLINES, Metrics, mean_of, metrics, slice_metrics, slices
from speech_emotion.evaluation.protocol_report import PREDICTIONS, as_predictions, rounded
from speech_emotion.models.baselines import DESCRIPTIONS

MODEL: Final = "model"
"""Name of the model among the baselines."""

WHOLE: Final = ("all", "mean")
"""Folds of the rows that stand for a whole protocol: its only fold, or the mean over its folds."""

TABLE: Final = "table.csv"

NOTHING: Final = "No protocol of this corpus has a test part, so there is nothing to compare.\n"

_CONTROL: Final = "shuffled"
"""The baseline that shows what chance looks like; it is never the best one."""


@dataclass(frozen=True)
class ModelPredictions:
    """Predictions of every model for the test utterances of a protocol, in one order."""

    protocol: str
    labels: tuple[str, ...]
    predictions: Mapping[str, Sequence[Mapping[str, Predictions]]]
    """By model: its repeats, by fold. All but the control with shuffled labels have one repeat."""
    groups: pd.DataFrame | None = None
    """Corpus and sex of each utterance of a mix, fold after fold."""


def write_comparison(
    protocols: Sequence[str], *, reports: Path, baselines: Path, settings: EvaluateSettings, target: Path, corpus: str
) -> None:
    """Compare the model with every baseline on each protocol.

    Write `table.csv`, `table.png`, `summary.md` and, of a mix, `corpora.csv`: the metrics of each of its `slices`, of
    the model also with references of the speaker.

    `protocols` are those with a test part. If there are none, `summary.md` says so and is the only file. `reports` and
    `baselines` are the folders of the protocols' reports and of the baselines' predictions.
    """
    protocol_models = [read_model_predictions(name, reports / name, baselines / f"{name}.csv") for name in protocols]
    tables = [compare(models, settings) for models in protocol_models]
    with replacing_folder(target) as folder:
        if not tables:
            write_text(folder / "summary.md", NOTHING)
            return
        table, chance = pd.concat(tables, ignore_index=True), 1 / len(protocol_models[0].labels)
        with replacing(folder / TABLE) as partial:
            table.to_csv(partial, index=False, lineterminator="\n")
        write_text(folder / "summary.md", summary(table, chance=chance))
        if protocol_models[0].groups is not None:
            files = sorted(reports.glob(f"[!.]*/{enrolment.TABLE}"))
            enrolled = [read_table(path).assign(protocol=path.parent.name, name=MODEL) for path in files]
            for name in protocols:
                enrolled += enrolled_baselines(name, reports / name, baselines / f"{name}_enrolled.csv", settings)
            rows = pd.concat([*enrolled, *(by_slice(models, settings) for models in protocol_models)])
            first = ["protocol", "corpus", "sex", "name", "condition"]
            write_table(folder / "corpora.csv", rows.drop(columns="draws").set_index(first).reset_index())
        drawn = table.assign(name=table["name"].map(_TICKS), low=table["uar_low"], high=table["uar_high"], line=chance)
        whole = drawn["fold"].isin(WHOLE)
        plots.uar_by_protocol(
            folder / "table.png",
            drawn[whole],
            folds=drawn[~whole],
            title=f"{corpus}: UAR on the test part with 95 % intervals; dotted: chance",
        )


def read_model_predictions(protocol: str, report: Path, baselines: Path) -> ModelPredictions:
    """Read the model's predictions from the protocol's report, and those of every baseline for the same split.

    Raise a `UserError` if they have different utterances.
    """
    model = read_table(report / PREDICTIONS)
    labels = tuple(name.removeprefix("p_") for name in model.columns if name.startswith("p_"))
    known = model.set_index(["fold", "id"])[["speaker", "emotion", "text"]]
    predictions = {MODEL: [_by_fold(model, labels)]}
    table = read_table(baselines)
    for (name, _), rows in table.groupby(["baseline", "repeat"], sort=False):
        renamed = rows.rename(columns={label: f"p_{label}" for label in labels}).set_index(["fold", "id"])
        if len(renamed) != len(known) or not renamed.index.isin(known.index).all():
            raise UserError(f"{baselines}: '{name}' has other utterances than {report}. Run `dvc repro`.")
        predictions.setdefault(str(name), []).append(_by_fold(known.join(renamed).reset_index(), labels))
    groups = model.sort_values("fold", kind="stable")[["corpus", "sex"]] if "corpus" in model else None
    return ModelPredictions(protocol, labels, predictions, groups)


def compare(models: ModelPredictions, settings: EvaluateSettings) -> pd.DataFrame:
    """Return the metrics of every model: a row for each fold, and one for the mean over folds.

    Columns are `protocol`, `fold`, `name`; each headline metric with `_low` and `_high`; for a baseline `model_ahead`
    (UAR of the model minus its own) and `p`.
    """
    rows = []
    for name, repeats in models.predictions.items():
        folds = list(repeats[0])
        scopes = {fold: [fold] for fold in folds} | ({"mean": folds} if len(folds) > 1 else {})
        for scope, members in scopes.items():
            chosen = [[repeat[fold] for fold in members] for repeat in repeats]
            row: dict[str, Any] = {"protocol": models.protocol, "fold": scope, "name": name}
            row |= _scores(chosen, models.labels, settings)
            if name != MODEL:
                model = [models.predictions[MODEL][0][fold] for fold in members]
                ahead = differences(model, *chosen, settings=settings)["uar"]
                row |= _cells("model_ahead", ahead.value, ahead.interval) | {"p": ahead.p}
            rows.append(rounded(row))
    return pd.DataFrame(rows)


def by_slice(models: ModelPredictions, settings: EvaluateSettings) -> pd.DataFrame:
    """Return the metrics of every baseline in each slice of a mix, pooled over folds and averaged over repeats."""
    members = {} if models.groups is None else slices(models.groups)

    def scores(folds: Mapping[str, Predictions], own: np.ndarray) -> Metrics:
        truth = np.concatenate([fold.truth for fold in folds.values()])[own]
        probabilities = np.concatenate([fold.probabilities for fold in folds.values()])[own]
        return slice_metrics(truth, probabilities, models.labels, bins=settings.calibration_bins)

    return pd.DataFrame(
        {"protocol": models.protocol, "corpus": corpus, "sex": sex, "name": name, "condition": enrolment.NONE}
        | pd.DataFrame([scores(repeat, own) for repeat in repeats]).mean().to_dict()
        for name, repeats in models.predictions.items()
        if name != MODEL
        for (corpus, sex), own in members.items()
    )


def enrolled_baselines(protocol: str, report: Path, file: Path, settings: EvaluateSettings) -> list[pd.DataFrame]:
    """Return what `by_slice` does, of the baseline that has references of the speaker, for each condition in `file`."""
    model = read_table(report / PREDICTIONS)
    labels = tuple(name.removeprefix("p_") for name in map(str, model.columns) if name.startswith("p_"))
    known = model[["fold", "id", "speaker", "text", "emotion", "corpus", "sex"]]
    found = []
    for condition, own in read_table(file).groupby("condition") if file.is_file() else ():
        rows = known.merge(own.rename(columns={label: f"p_{label}" for label in labels}), on=["fold", "id"])
        rows = rows.sort_values("fold", kind="stable")
        one = {"svm_functionals": [_by_fold(rows, labels)]}
        scores = by_slice(ModelPredictions(protocol, labels, one, rows[["corpus", "sex"]]), settings)
        found.append(scores.assign(condition=condition))
    return found


def best_baseline(rows: pd.DataFrame) -> pd.Series:
    """Return the baseline with the highest UAR among the rows of one protocol."""
    baselines = rows[~rows["name"].isin([MODEL, _CONTROL])].reset_index(drop=True)
    return baselines.iloc[int(baselines["uar"].argmax())]


def summary(table: pd.DataFrame, *, chance: float) -> str:
    """Return the README's table as Markdown: by protocol, UAR of the model, of the best baseline, and of chance."""
    lines = ["| split | this model | best simple baseline | chance |", "|---|---|---|---|"]
    for protocol, rows in table[table["fold"].isin(WHOLE)].groupby("protocol", sort=False):
        model, best = rows[rows["name"] == MODEL].iloc[0], best_baseline(rows)
        lines.append(
            f"| {_SPLITS.get(str(protocol), protocol)} | {_figure(model)} "
            f"| {_figure(best)}, {DESCRIPTIONS[best['name']]} | {chance:.3f} |"
        )
    return "\n".join(lines) + "\n"


_SPLITS: Final = {
    "random": "random",
    "word": "word (unseen words)",
    "speaker": "**speaker (unseen speaker)**",
    "corpus": "corpus (unseen corpus)",
}

_TICKS: Final[Mapping[str, str]] = {
    MODEL: "this model",
    "majority": "majority",
    _CONTROL: "shuffled labels",
    "shortcut": "level, peak, duration",
    "logistic": "mean MFCC + LR",
    "svm": "mean MFCC + SVM",
    "svm_mean_std": "mean, std MFCC + SVM",
    "svm_functionals": "functionals + SVM",
    "reference": "reference model",
}


def _scores(
    repeats: Sequence[Sequence[Predictions]], labels: tuple[str, ...], settings: EvaluateSettings
) -> dict[str, Any]:
    every = [fold for folds in repeats for fold in folds]
    means = mean_of([metrics(one.truth, one.probabilities, labels, bins=settings.calibration_bins) for one in every])
    found = intervals(*repeats, settings=settings)
    cells: dict[str, Any] = {}
    for metric in HEADLINES:
        cells |= _cells(metric, means[metric], found[metric])
    return cells


def _cells(metric: str, value: float, interval: Interval) -> dict[str, float]:
    return {metric: value, f"{metric}_low": interval.low, f"{metric}_high": interval.high}


def _figure(row: pd.Series) -> str:
    return f"{row['uar']:.3f} ({Interval(row['uar_low'], row['uar_high']).text()})"


def _by_fold(rows: pd.DataFrame, labels: tuple[str, ...]) -> dict[str, Predictions]:
    return {str(fold): as_predictions(part, labels) for fold, part in rows.groupby("fold", sort=True)}
