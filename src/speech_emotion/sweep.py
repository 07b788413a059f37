"""Takes training parameters and their values; gives how each does on pseudo-speakers, trained in full.

What `speech-emotion tune` finds by short trials is not always what full trainings prefer. For a few values of a few
parameters they can all be afforded. No test utterance is heard.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speech_emotion import sweep_figures
from speech_emotion.errors import UserError
from speech_emotion.experiment import Experiment, fit
from speech_emotion.files import replacing, replacing_folder, write_json, write_text
from speech_emotion.settings.base import PARAMS
from speech_emotion.settings.sweep import SweepSettings
from speech_emotion.settings.train import TrainSettings
from speech_emotion.splits import Fold
from speech_emotion.stage import alone
from speech_emotion.tracking import flat
from speech_emotion.training import Epoch

_COLUMNS = ["parameter", "value", "seed", "fold", "uar", "same_voice_uar"]


@dataclass(frozen=True)
class Candidate:
    """One parameter at one value, all others as params.yaml has them.

    Attributes
    ----------
    parameter : str
        Its name in params.yaml; empty: the settings are those of params.yaml.
    value : object
    """

    parameter: str
    value: Any = None

    @property
    def changes(self) -> dict[str, Any]:
        """What it changes, by name."""
        return {self.parameter: self.value} if self.parameter else {}

    def __str__(self) -> str:
        return f"{self.parameter} = {json.dumps(self.value)}" if self.parameter else str(PARAMS)

    @property
    def columns(self) -> tuple[str, str]:
        """Parameter and value as a table has them: None among numbers would turn them into fractions."""
        return self.parameter, json.dumps(self.value) if self.parameter else ""


@dataclass(frozen=True)
class Heard:
    """What a training came to, on validation utterances alone.

    Attributes
    ----------
    candidate : Candidate
    seed : int
    fold : str
        The speaker that is left out, and not looked at.
    uar : float
        On validation utterances in the voices of pseudo-speakers.
    same_voice_uar : float
        On the same utterances as recorded.
    """

    candidate: Candidate
    seed: int
    fold: str
    uar: float
    same_voice_uar: float


def candidates(train: TrainSettings, settings: SweepSettings) -> tuple[Candidate, list[Candidate]]:
    """Return the present settings, and all that is trained, these among them: in front, or where the sweep lists them.

    Where one parameter is swept, the present settings are its present value; where what is behind is left, means over
    seeds are of unlike seeds, and differences tell more.

    Raises
    ------
    UserError
        There is no such parameter.
    """
    present_values = flat({"train": train.model_dump(mode="json")})
    for name in settings.values:
        if name not in present_values:
            raise UserError(f"{PARAMS} has no '{name}', which is to be swept.")
    listed = [Candidate(name, value) for name, values in settings.values.items() for value in values]
    if len(settings.values) == 1 and not settings.leave_behind:
        [name] = settings.values
        present = Candidate(name, present_values[name])
        return present, listed if present in listed else [present, *listed]
    present = Candidate("")
    return present, [present, *(one for one in listed if one.value != present_values[one.parameter])]


def heard(candidate: Candidate, fold: Fold, experiment: Experiment) -> Heard:
    """Train a fold with a candidate's settings; what was trained before, also in a killed process, is not again.

    The scratch folder is that of the very same training in `dvc repro`: whichever comes second finds it done.
    """
    epochs, seed = experiment.settings.epochs, experiment.settings.seed
    name = f"{candidate}, seed {seed}, without {fold.name}"

    def told(row: Epoch) -> None:
        print(f"{name}: epoch {row.epoch}/{epochs}  pseudo-speakers {row.val_uar:.3f}", flush=True)

    with alone(f"train/{experiment.training_digest(fold)}") as scratch:
        trained, _ = fit(experiment, fold, scratch=scratch, on_epoch=told)
    best = trained.history[trained.best_epoch - 1]
    return Heard(candidate, seed, fold.name, best.val_uar, best.same_voice_uar)


def ahead(found: Sequence[Heard], present: Candidate) -> list[Candidate]:
    """Return what is ahead of the present settings from every seed that these were trained from.

    Ahead is: of higher UAR, the mean over folds. What is ahead from some seeds and behind from others says no more than
    that seeds differ.

    Parameters
    ----------
    found : sequence of Heard
    present : Candidate

    Returns
    -------
    list of Candidate
        Of the highest mean over seeds first.
    """
    differences = _differences(found, present)
    better = differences[(differences > 0).all(axis=1)].mean(axis=1).sort_values(ascending=False, kind="stable")
    by_columns = {one.candidate.columns: one.candidate for one in found}
    return [by_columns[columns] for columns in better.index]


def chosen(found: Sequence[Heard], present: Candidate) -> Candidate:
    """Return what pseudo-speakers clearly prefer to the present settings, or these: the first that is `ahead`."""
    return next(iter(ahead(found, present)), present)


def _rows(found: Sequence[Heard]) -> pd.DataFrame:
    rows = [(*one.candidate.columns, one.seed, one.fold, one.uar, one.same_voice_uar) for one in found]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _differences(found: Sequence[Heard], present: Candidate) -> pd.DataFrame:
    """Return each candidate's mean over folds less that of the present settings, a column a seed; nan: not trained."""
    means = _rows(found).groupby(["parameter", "value", "seed"], sort=False)["uar"].mean().unstack("seed")
    return means - means.loc[present.columns]


def write(found: Sequence[Heard], target: Path, *, present: Candidate, corpus: str) -> None:
    """Write `scores.csv`, `chosen.json` (what is to be changed in params.yaml), `table.md` and `plot.png`."""
    rows, best = _rows(found), chosen(found, present)
    title = f"{corpus}: UAR on validation, trained without one speaker"
    with replacing_folder(target) as folder:
        with replacing(folder / "scores.csv") as aside:
            rows.to_csv(aside, index=False, lineterminator="\n", float_format="%.6f")
        write_json(folder / "chosen.json", {} if best == present else best.changes)
        if present.parameter:
            write_text(folder / "table.md", by_value(rows))
            sweep_figures.by_value(folder / "plot.png", rows, title=title, chosen=best.columns[1])
        else:
            differences = _differences(found, present)
            write_text(folder / "table.md", by_difference(rows, differences, present))
            ordered = _in_order(differences, present)
            ordered = ordered.set_axis(_names(ordered))
            sweep_figures.by_difference(folder / "plot.png", ordered, title=title, chosen=str(best))


def by_value(rows: pd.DataFrame) -> str:
    """Return the sweep of one parameter as Markdown: a row a value, by fold and their mean, then the same voices.

    Where there are several seeds, the least and the largest mean over folds of one seed stand behind the mean.
    """
    folds = list(dict.fromkeys(rows["fold"]))
    parameter = rows["parameter"].iloc[0]
    heads = [f"`{parameter}`", *(f"pseudo-speakers, without {fold}" for fold in folds), "mean", "same voices, mean"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for value, part in rows.groupby("value", sort=False):
        uars = [*(part.loc[part["fold"] == fold, "uar"].mean() for fold in folds), part["uar"].mean()]
        cells = [f"{one:.3f}" for one in (*uars, part["same_voice_uar"].mean())]
        by_seed = part.groupby("seed")["uar"].mean()
        if len(by_seed) > 1:
            cells[-2] += f" ({by_seed.min():.3f} to {by_seed.max():.3f})"
        lines.append("| " + " | ".join([str(value), *cells]) + " |")
    return "\n".join(lines) + "\n"


def by_difference(rows: pd.DataFrame, differences: pd.DataFrame, present: Candidate) -> str:
    """Return the sweep of several parameters as Markdown: a row a value, and from each seed what it is ahead by.

    Parameters
    ----------
    rows : pd.DataFrame
        Of `scores.csv`.
    differences : pd.DataFrame
        UAR less that of the present settings, a column a seed.
    present : Candidate
        Has the first row, its UAR from each seed.
    """
    heads = ["setting", *(f"seed {seed}" for seed in differences), "same voices, mean"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    by_candidate = rows.groupby(["parameter", "value"], sort=False)
    own = by_candidate.get_group(present.columns).groupby("seed")["uar"].mean()
    same = by_candidate["same_voice_uar"].mean()
    lines.append(_line(str(PARAMS), [f"{uar:.3f}" for uar in own], same[present.columns]))
    ordered = _in_order(differences, present)
    for name, columns, ahead_by in zip(_names(ordered), ordered.index, ordered.to_numpy(), strict=True):
        lines.append(_line(name, ["" if np.isnan(one) else f"{one:+.3f}" for one in ahead_by], same[columns]))
    return "\n".join(lines) + "\n"


def _line(name: str, cells: Sequence[str], same: float) -> str:
    return "| " + " | ".join([f"`{name}`", *cells, f"{same:.3f}"]) + " |"


def _in_order(differences: pd.DataFrame, present: Candidate) -> pd.DataFrame:
    """Return the rows that are not the present settings': first what was trained from most seeds, then by the mean."""
    others = differences.drop(index=[present.columns])
    order = pd.DataFrame({"seeds": others.notna().sum(axis=1), "mean": others.mean(axis=1)})
    return others.loc[order.sort_values(["seeds", "mean"], ascending=False, kind="stable").index]


def _names(ordered: pd.DataFrame) -> list[str]:
    return [f"{parameter} = {value}" for parameter, value in ordered.index.to_list()]
