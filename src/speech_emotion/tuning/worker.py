"""Takes its share of a search; runs one trial after the other until the budget, or the time, is used up."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock

from speech_emotion.config.tuning import RecipeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.process import SCRATCH
from speech_emotion.tracking.event_log import process_name
from speech_emotion.tuning.objective import Ground, Objective, TrialInterruptedError
from speech_emotion.tuning.study import (
    DEVICES,
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

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
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
    neighbours : int
        Workers on this machine, itself among them, that divide its GPUs.
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
    neighbours: int
    trials: int
    ends: float
    call: str


def work(shift: Shift) -> None:
    """Run trials. A trial that fails is recorded with its reason, and the next one begins.

    Raises
    ------
    UserError
        The database of the study no longer answers.
    """
    if shift.neighbours > 1 and (devices := _devices()):
        # before TensorFlow is loaded, which takes all that it sees
        os.environ[VISIBLE] = ",".join(own_devices(devices, worker=shift.worker, neighbours=shift.neighbours))
    with shift.storage.answering():
        _work(shift)


def own_devices(devices: Sequence[str], *, worker: int, neighbours: int) -> list[str]:
    """Return a worker's GPUs: those of a machine are divided, and where there are fewer than workers, shared.

    Parameters
    ----------
    devices : sequence of str
        One at least.
    worker : int
        From 0.
    neighbours : int
        Workers of the machine.
    """
    return list(devices[worker::neighbours]) or [devices[worker % len(devices)]]


def _devices() -> list[str]:
    """Return the GPUs that this process may use, by the names that CUDA knows them by."""
    told = os.environ.get(VISIBLE)
    if told is not None:
        return [name.strip() for name in told.split(",") if name.strip()]
    # CUDA counts those that are there from 0, also where a container was given the last of four
    return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def _work(shift: Shift) -> None:
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
    from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError

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
        trial.set_user_attr(DEVICES, os.environ.get(VISIBLE, ""))
        begun.append(trial.number)
        known = next(one for one in study.get_trials(deepcopy=False) if one.number == trial.number)
        ticket.release()
        try:
            return objective(trial, first_try=first_try(known))
        except Exception as error:
            # a database that was away for a moment is no fault of the trial
            cut_off = isinstance(error, TrialInterruptedError | StorageInternalError)
            why = INTERRUPTED if cut_off else _in_words(error)
            with suppress(UpdateFinishedTrialError):
                trial.set_user_attr(REASON, why)
            raise

    try:
        study.optimize(run, n_trials=1, catch=(Exception,), callbacks=[_take_up_again])
    except (UpdateFinishedTrialError, ValueError):
        if not any(trial.state.is_finished() for trial in study.get_trials(deepcopy=False) if trial.number in begun):
            raise
        # its signs of life came so late that it was taken for dead, and another worker has it by now
    except (UnboundLocalError, AssertionError) as error:
        # where a trial's end cannot be written, Optuna (5.0) stumbles over what it believes of that trial
        silence = error.__context__
        if not isinstance(silence, StorageInternalError):
            raise
        raise silence from silence.__cause__
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
