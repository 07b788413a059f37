"""Takes its share of a search; runs one trial after the other until the budget, or the time, is used up."""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from filelock import FileLock

from speech_emotion.errors import UserError
from speech_emotion.journal import process_name
from speech_emotion.settings.tune import RecipeSettings
from speech_emotion.stage import SCRATCH
from speech_emotion.tuning.objective import Ground, Objective, TrialInterruptedError
from speech_emotion.tuning.study import (
    INTERRUPTED,
    NUMBER,
    PROCESS,
    REASON,
    Storage,
    distinct,
    first_try,
    is_stopped,
    open_study,
    pruner,
    release_the_dead,
    requeue,
    sampler,
)

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

LOOK_SECONDS: Final = 1.0
"""Between two looks of a worker that has nothing to do but to wait for the trials of others."""


@dataclass(frozen=True)
class Shift:
    """What a worker is told.

    Attributes
    ----------
    ground : Ground
    recipe : RecipeSettings
    study : str
    storage : Storage
    worker : int
        Its number among the workers of the call.
    trials : int
        Of the study, at which it ends.
    ends : float
        When it ends at the latest, in seconds since 1970.
    call : str
        Names the call, so that it can be told to end.
    """

    ground: Ground
    recipe: RecipeSettings
    study: str
    storage: Storage
    worker: int
    trials: int
    ends: float
    call: str


def work(shift: Shift) -> None:
    """Run trials. A trial that fails is recorded with its reason, and the next one begins."""
    from optuna.pruners import NopPruner

    study = open_study(shift.study, shift.storage)
    objective = Objective(
        shift.ground,
        shift.recipe,
        study=shift.study,
        prunes=shift.ground.tune.second is None,
        stopped=lambda: _is_over(study, shift),
    )
    study.pruner = pruner(shift.ground.tune, steps=objective.steps)
    if shift.recipe != shift.ground.tune.recipe:
        # the best few are not compared by what they had on the way
        study.pruner = NopPruner()
    ticket = _ticket(shift.study)
    while not _is_over(study, shift):
        with ticket:
            ran = _one_trial(study, objective, shift, ticket)
        if ran:
            continue
        counted = distinct(study.get_trials(deepcopy=False))
        if sum(trial.state.is_finished() for trial in counted) >= shift.trials:
            return
        # the trials that are left run elsewhere; should their process die, they are taken over
        time.sleep(LOOK_SECONDS)


def _one_trial(study: "Study", objective: Objective, shift: Shift, ticket: FileLock) -> bool:
    """Run a trial, unless all of the budget are taken; tell whether there was one.

    The ticket is given back when the trial has begun, so that no more are begun than there should be.
    """
    from optuna.exceptions import UpdateFinishedTrialError

    release_the_dead(study, shift.storage)
    counted = distinct(study.get_trials(deepcopy=False))
    taken = sum(trial.state.name != "WAITING" for trial in counted)
    if taken >= shift.trials:
        return False
    study.sampler = sampler(shift.ground.tune, worker=shift.worker, trials=taken)
    begun: list[int] = []

    def run(trial: "Trial") -> float | tuple[float, float]:
        trial.set_user_attr(PROCESS, process_name())
        trial.set_user_attr(NUMBER, trial.number)
        trial.set_user_attr(REASON, "")
        begun.append(trial.number)
        known = next(one for one in study.get_trials(deepcopy=False) if one.number == trial.number)
        ticket.release()
        try:
            return objective(trial, first_try=first_try(known))
        except Exception as error:
            why = INTERRUPTED if isinstance(error, TrialInterruptedError) else _in_words(error)
            with suppress(UpdateFinishedTrialError):
                trial.set_user_attr(REASON, why)
            raise

    try:
        study.optimize(run, n_trials=1, catch=(Exception,), callbacks=[_take_up_again])
    except (UpdateFinishedTrialError, ValueError):
        if not any(trial.state.is_finished() for trial in study.get_trials(deepcopy=False) if trial.number in begun):
            raise
        # its signs of life came so late that it was taken for dead, and another worker has it by now
    return True


def _take_up_again(study: "Study", trial: "FrozenTrial") -> None:
    if trial.state.name == "FAIL" and trial.user_attrs.get(REASON) == INTERRUPTED:
        requeue(study, trial)


def _is_over(study: "Study", shift: Shift) -> bool:
    return time.time() >= shift.ends or is_stopped(study, shift.call)


def _ticket(study: str) -> FileLock:
    folder = SCRATCH / "tune" / study
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "ticket")


def _in_words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text if isinstance(error, UserError) else f"{type(error).__name__}: {text}")[:500]
