"""Write the tables, plots and winner of a search, and apply the winner to params.yaml."""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pandas as pd
from optuna.importance import FanovaImportanceEvaluator
from optuna.study import Study

from speech_emotion.config import presets
from speech_emotion.config.base import PARAMS
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, write_json
from speech_emotion.core.tables import write_table
from speech_emotion.tuning.objective import SearchInputs
from speech_emotion.tuning.space import nested
from speech_emotion.tuning.study import ranked, reason, trials_of

WINNER: Final = "winner.json"
PRESET: Final = "winner_preset.json"


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
    """Write trials.csv, the plots, the winner and, of `full`, promoted.csv."""
    write_table(folder / "trials.csv", trial_table(study))
    if full is not None:
        write_table(folder / "promoted.csv", trial_table(full))
    if ranked(study):
        _write_plots(study, folder, seed=seed)
    if winner is not None:
        write_winner(winner, folder)


def write_winner(winner: Winner, folder: Path) -> None:
    """Write winner.json, and its settings as a preset."""
    write_json(folder / WINNER, asdict(winner))
    write_json(folder / PRESET, nested(winner.values))


def apply_winner(inputs: SearchInputs, folder: Path, params: Path = PARAMS) -> tuple[str, Winner]:
    """Write the winner into params.yaml, keeping comments and order; return a unified diff and the winner.

    Raises a UserError and changes nothing if there is no winner, or it was found on other data or features.
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


def trial_table(study: Study) -> pd.DataFrame:
    """Return a row for each attempt: state, values, duration, parameters and reason."""
    table = study.trials_dataframe(("number", "state", "values", "duration", "params"))
    table.columns = [str(name).removeprefix("values_").removeprefix("params_") for name in table]
    table["reason"] = [reason(trial) for trial in trials_of(study)]
    return table


def _write_plots(study: Study, folder: Path, *, seed: int) -> None:
    """Save Optuna's plots for which the study has enough trials."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    single = len(study.directions) == 1
    # with a single objective, Optuna also knows its direction
    loss: dict[str, Any] = {
        "target": None if single else lambda trial: trial.values[0],
        "target_name": "validation NLL",
    }
    evaluator = FanovaImportanceEvaluator(seed=seed)
    drawing: dict[str, Callable[[Study], Any]] = {
        "optimization_history": partial(plots.plot_optimization_history, **loss),
        "param_importances": partial(plots.plot_param_importances, evaluator=evaluator, **loss),
        "timeline": plots.plot_timeline,
    }
    if single:
        drawing["intermediate_values"] = plots.plot_intermediate_values
    else:
        drawing["pareto_front"] = plots.plot_pareto_front
    for name, draw in drawing.items():
        # Optuna sets matplotlib's style for the whole process
        with warnings.catch_warnings(action="ignore"), pyplot.rc_context():
            try:
                figure = draw(study).figure
            except (ValueError, RuntimeError):
                continue
            figure.set_size_inches(9.0, 5.0)
            with replacing(folder / f"{name}.png") as temporary:
                figure.savefig(temporary, format="png", bbox_inches="tight", metadata={"Software": None})
            pyplot.close("all")
