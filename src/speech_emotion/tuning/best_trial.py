"""Takes a study that has ended; gives its tables, pictures and winner as files, and the winner in params.yaml."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
from ruamel.yaml import YAML

from speech_emotion.config import presets
from speech_emotion.config.base import PARAMS
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, write_json
from speech_emotion.tuning import plots
from speech_emotion.tuning.objective import Ground
from speech_emotion.tuning.space import Space, nested
from speech_emotion.tuning.study import describe, distinct, first_try, reason

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

WINNER: Final = "winner.json"
PRESET: Final = "winner.yaml"
TRIALS: Final = "trials.csv"
PROMOTED: Final = "promoted.csv"
IMPORTANCES: Final = "importances.csv"

FOUND_ON: Final = ("data", "features")


@dataclass(frozen=True)
class Winner:
    """The best settings of a search, and what that was.

    Attributes
    ----------
    study, trial : str
    protocol : str
    uar : float
        On the protocol's validation, the mean over folds, by the recipe.
    present_uar : float or None
        Of the settings that the search started from, by the same recipe; None: that trial was not finished.
    recipe : str
        How both were trained, in words.
    values : mapping of str to Any
        By the names of training parameters.
    data, features : str
        Digests of what they were found on.
    """

    study: str
    trial: str
    protocol: str
    uar: float
    present_uar: float | None
    recipe: str
    values: Mapping[str, Any]
    data: str
    features: str

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        before = "" if self.present_uar is None else f" (the settings before: {self.present_uar:.4f})"
        return (
            f"{self.trial} of {self.study}: UAR {self.uar:.4f}{before}, the mean over the folds of '{self.protocol}' "
            f"on validation, {self.recipe}"
        )


def report_folder(corpus: str) -> Path:
    """Return where the report of a corpus's search lies."""
    return Path("reports") / corpus / "tuning"


def write_tables(
    study: "Study", space: Space, folder: Path, *, promoted: "Study | None", page: Path, seed: int
) -> None:
    """Write what a search has found.

    Parameters
    ----------
    study : Study
    space : Space
    folder : Path
        For trials.csv, a row a trial, promoted.csv, importances.csv and the pictures.
    promoted : Study or None
        Of the trials that were trained in full; None: there are none, nor a promoted.csv.
    page : Path
        For the interactive pictures.
    seed : int
        Of the importances.
    """
    for name, trials in ((TRIALS, study), (PROMOTED, promoted)):
        if trials is not None:
            with replacing(folder / name) as aside:
                rows = table(trials.get_trials(deepcopy=False), space)
                rows.to_csv(aside, index=False, lineterminator="\n", float_format="%.6g")
    found = plots.importances(study, seed=seed)
    with replacing(folder / IMPORTANCES) as aside:
        rows = pd.DataFrame(list(found.items()), columns=["parameter", "importance"])
        rows.to_csv(aside, index=False, lineterminator="\n", float_format="%.4f")
    plots.draw(study, folder, page=page, found=found)


def write_winner(winner: Winner, folder: Path) -> None:
    """Write winner.json, all of it, and winner.yaml, the settings as a preset."""
    write_json(folder / WINNER, asdict(winner))
    with replacing(folder / PRESET) as aside, open(aside, "w", encoding="utf-8", newline="\n") as file:
        file.write(f"# {winner.sentence}.\n# `speech-emotion tune --apply` writes it into params.yaml.\n")
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.dump(nested(winner.values), file)


def read_winner(folder: Path) -> Winner:
    """Read what `write_winner` wrote.

    Raises
    ------
    UserError
        There is none.
    """
    try:
        return Winner(**json.loads((folder / WINNER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{folder / WINNER}: is missing or damaged. `speech-emotion tune` writes it.") from None


def apply(ground: Ground, folder: Path, params: Path = PARAMS) -> tuple[str, Winner]:
    """Write the winner into params.yaml, comments and order kept.

    Returns
    -------
    str
        The difference, as a unified diff; empty when params.yaml has these settings already.
    Winner

    Raises
    ------
    UserError
        There is no winner, or it was found on other data or features than the present ones; nothing is changed.
    """
    winner = read_winner(folder)
    present = ground.digests()
    other = [name for name in FOUND_ON if present[name] != getattr(winner, name)]
    if other:
        words = " and ".join(
            f"{name.replace('_', '-')} {getattr(winner, name)[:12]}, which are now {present[name][:12]}"
            for name in other
        )
        raise UserError(
            f"{folder / WINNER}: was found on other {words}. What was best there need not be best here: "
            "`speech-emotion tune` searches anew."
        )
    return presets.apply(folder / PRESET, params), winner


def table(trials: Sequence["FrozenTrial"], space: Space) -> pd.DataFrame:
    """Return a row a trial: number, state, values, best so far, duration, reason, and what was tried."""
    counted = {trial.number for trial in distinct(trials)}
    rows, best = [], float("nan")
    for trial in trials:
        values = list(trial.values or [])
        if trial.number in counted and trial.state.name == "COMPLETE":
            best = values[0] if best != best else max(best, values[0])
        last = sorted(trial.intermediate_values)[-1:]
        rows.append(
            {
                "trial": trial.number,
                "name": describe(trial),
                "first_try": first_try(trial),
                "state": trial.state.name.lower(),
                "uar": values[0] if values else None,
                "second": values[1] if len(values) > 1 else None,
                "best_uar": best,
                "steps": last[0] if last else 0,
                "seconds": None if trial.duration is None else round(trial.duration.total_seconds(), 1),
                "reason": reason(trial),
                **{name: _cell(value) for name, value in space.chosen(trial.params).items()},
            }
        )
    return pd.DataFrame(rows)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value
