"""Write the tables, plots and winner of a search, and apply the winner to params.yaml."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study

from speech_emotion.config import presets
from speech_emotion.config.base import PARAMS
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, write_csv, write_json
from speech_emotion.tuning.objective import SearchInputs
from speech_emotion.tuning.space import nested
from speech_emotion.tuning.study import ranked, reason, trials_of

WINNER: Final = "winner.json"
PRESET: Final = "winner_preset.json"

PLOTS: Final = (
    "optimization_history",
    "param_importances",
    "slice",
    "intermediate_values",
    "timeline",
    "pareto_front",
)
"""Functions of `optuna.visualization.matplotlib`, without `plot_`, and the names of the image files."""

_PLOTTED_PARAMETERS: Final = 6
"""The most important ones; `optuna-dashboard` shows all."""


@dataclass(frozen=True)
class Winner:
    """The best settings of a search, by parameter name, with the digests of the data and features they were found on.

    `nll` is the mean validation negative log-likelihood over the folds; `current_nll` is that of the settings that the
    search started from, trained by the same recipe (None if that trial did not finish).
    """

    study: str
    trial: str
    protocol: str
    nll: float
    current_nll: float | None
    recipe: str
    values: Mapping[str, Any]
    data: str
    features: str

    def __str__(self) -> str:
        current = "" if self.current_nll is None else f" (current settings: {self.current_nll:.4f})"
        return (
            f"{self.trial} of {self.study}: validation NLL {self.nll:.4f}{current}, mean over the folds of "
            f"'{self.protocol}', {self.recipe}"
        )


def report_folder(corpus: str) -> Path:
    """Return the folder of a corpus's tuning report."""
    return Path("reports") / corpus / "tuning"


def write_report(folder: Path, study: Study, full: Study | None, winner: Winner | None, *, seed: int) -> None:
    """Write trials.csv, importances.csv, the plots, the winner and, of `full`, promoted.csv."""
    _write_table(trial_table(study), folder / "trials.csv")
    if full is not None:
        _write_table(trial_table(full), folder / "promoted.csv")
    found = importances(study, seed=seed)
    rows = [(name, f"{value:.6g}") for name, value in found.items()]
    write_csv(folder / "importances.csv", ("parameter", "importance"), rows)
    _write_plots(study, folder, list(found)[:_PLOTTED_PARAMETERS], seed=seed)
    if winner is not None:
        write_winner(winner, folder)


def write_winner(winner: Winner, folder: Path) -> None:
    """Write winner.json, and its settings as a preset."""
    write_json(folder / WINNER, asdict(winner))
    write_json(folder / PRESET, nested(winner.values))


def apply_winner(inputs: SearchInputs, folder: Path, params: Path = PARAMS) -> tuple[str, Winner]:
    """Write the winner into params.yaml, keeping comments and order; return a unified diff and the winner.

    Raises
    ------
    UserError
        There is no winner, or it was found on other data or features. params.yaml is not changed.
    """
    try:
        winner = Winner(**json.loads((folder / WINNER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{folder / WINNER}: missing or damaged. `speech-emotion tune` writes it.") from None
    digests = inputs.digests()
    for name, found_on in (("data", winner.data), ("features", winner.features)):
        if digests[name] != found_on:
            raise UserError(
                f"{folder / WINNER}: found on {name} {found_on[:12]}, but the current {name} are {digests[name][:12]}. "
                "Run `speech-emotion tune` again: the best settings may differ."
            )
    return presets.apply(folder / PRESET, params), winner


def importances(study: Study, *, seed: int) -> dict[str, float]:
    """Return the importance of each parameter for the loss (fANOVA), descending; empty with too few trials."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed), target=_loss(study))
    except (ValueError, RuntimeError):
        return {}


def trial_table(study: Study) -> pd.DataFrame:
    """Return a row for each attempt: state, values, best so far, duration, reason and parameters."""
    trials, names = trials_of(study), study.metric_names or ["nll"]
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            **dict(zip(names, trial.values or (), strict=False)),
            "reason": reason(trial),
            "seconds": None if trial.duration is None else round(trial.duration.total_seconds(), 1),
            **trial.params,
        }
        for trial in trials
    ]
    parameters = dict.fromkeys(name for trial in trials for name in trial.params)
    table = pd.DataFrame(rows, columns=["trial", "state", *names, "reason", "seconds", *parameters])
    table.insert(3, "best_nll", table[names[0]].where(table["state"] == "complete").cummin().ffill())
    return table


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")


def _write_plots(study: Study, folder: Path, parameters: Sequence[str], *, seed: int) -> None:
    """Save the plots for which the study has enough trials."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    if not ranked(study):
        return
    target = {"target": _loss(study), "target_name": "validation NLL"}
    options: dict[str, dict[str, Any]] = {
        "optimization_history": target,
        "param_importances": {**target, "evaluator": FanovaImportanceEvaluator(seed=seed)},
        "slice": {**target, "params": list(parameters) or None},
    }
    for name in PLOTS:
        if name == ("pareto_front" if len(study.directions) == 1 else "intermediate_values"):
            continue
        # Optuna sets matplotlib's style for the whole process
        with warnings.catch_warnings(action="ignore"), pyplot.rc_context():
            try:
                panels = np.ravel(np.asarray(getattr(plots, f"plot_{name}")(study, **options.get(name, {}))))
            except (ValueError, RuntimeError):
                continue
            figure = panels[0].figure
            figure.set_size_inches(max(9.0, 2.5 * len(panels)), 5.0)
            with replacing(folder / f"{name}.png") as temporary:
                figure.savefig(temporary, format="png", bbox_inches="tight", metadata={"Software": None})
            pyplot.close("all")


def _loss(study: Study) -> Any:
    # with a single objective, Optuna also knows its direction
    return None if len(study.directions) == 1 else lambda trial: trial.values[0]
