"""Takes a training parameter and its values; gives how each does on pseudo-speakers, trained in full.

What `speech-emotion tune` finds by short trials is not always what full trainings prefer. For one parameter with a few
values they can all be afforded. No test utterance is heard.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from speech_emotion import figures
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


@dataclass(frozen=True)
class Heard:
    """What a training came to, on validation utterances alone.

    Attributes
    ----------
    value : object
        Of the parameter.
    seed : int
    fold : str
        The speaker that is left out, and not looked at.
    uar : float
        On validation utterances in the voices of pseudo-speakers.
    same_voice_uar : float
        On the same utterances as recorded.
    """

    value: Any
    seed: int
    fold: str
    uar: float
    same_voice_uar: float


def present_value(train: TrainSettings, settings: SweepSettings) -> Any:
    """Return the value that params.yaml has of what is swept.

    Raises
    ------
    UserError
        There is no such parameter, or its present value is not among those that are tried.
    """
    try:
        present = flat({"train": train.model_dump(mode="json")})[settings.parameter]
    except KeyError:
        raise UserError(f"{PARAMS} has no '{settings.parameter}', which is to be swept.") from None
    if present not in settings.values:
        raise UserError(
            f"the sweep of {settings.parameter} does not try {json.dumps(present)}, the value of {PARAMS}: add it to "
            "the sweep's values."
        )
    return present


def heard(value: Any, fold: Fold, experiment: Experiment) -> Heard:
    """Train a fold with settings that hold `value`; what was trained before, also in a killed process, is not again.

    The scratch folder is that of the very same training in `dvc repro`: whichever comes second finds it done.
    """
    epochs, seed = experiment.settings.epochs, experiment.settings.seed
    name = f"{value}, seed {seed}, without {fold.name}"

    def told(row: Epoch) -> None:
        print(f"{name}: epoch {row.epoch}/{epochs}  pseudo-speakers {row.val_uar:.3f}", flush=True)

    with alone(f"train/{experiment.training_digest(fold)}") as scratch:
        trained, _ = fit(experiment, fold, scratch=scratch, on_epoch=told)
    best = trained.history[trained.best_epoch - 1]
    return Heard(value, seed, fold.name, best.val_uar, best.same_voice_uar)


def chosen(found: Sequence[Heard], present: Any) -> Any:
    """Return the value that pseudo-speakers clearly prefer to the present one, or the present one.

    Clearly is: its mean UAR over folds is higher from every seed. Of several such the highest mean over seeds decides.
    What is ahead from some seeds and behind from others says no more than that seeds differ.

    Parameters
    ----------
    found : sequence of Heard
    present : object
        The value of params.yaml, one of those that were tried.
    """
    means = _rows(found).groupby(["value", "seed"], sort=False)["uar"].mean().unstack("seed")
    ahead = means[(means > means.loc[json.dumps(present)]).all(axis=1)]
    return present if ahead.empty else json.loads(str(ahead.mean(axis=1).idxmax()))


def _rows(found: Sequence[Heard]) -> pd.DataFrame:
    # values as text, as params.yaml would have them: None among numbers would turn them into fractions
    return pd.DataFrame([{**asdict(one), "value": json.dumps(one.value)} for one in found])


def write(found: Sequence[Heard], settings: SweepSettings, target: Path, *, best: Any, corpus: str) -> None:
    """Write `scores.csv`, `chosen.json`, `table.md` and `plot.png`; `best` is what `chosen` gives."""
    rows = _rows(found)
    with replacing_folder(target) as folder:
        with replacing(folder / "scores.csv") as aside:
            rows.to_csv(aside, index=False, lineterminator="\n", float_format="%.6f")
        write_json(folder / "chosen.json", {"parameter": settings.parameter, "value": best})
        write_text(folder / "table.md", markdown(rows, settings.parameter))
        figures.sweep(
            folder / "plot.png",
            rows,
            title=f"{corpus}: UAR on validation, trained without one speaker",
            parameter=settings.parameter,
            chosen=json.dumps(best),
        )


def markdown(rows: pd.DataFrame, parameter: str) -> str:
    """Return the sweep as Markdown: a row a value, pseudo-speakers by fold and their mean, then the same voices.

    Where there are several seeds, the least and the largest mean over folds of one seed stand behind the mean.
    """
    folds = list(dict.fromkeys(rows["fold"]))
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
