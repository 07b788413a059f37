"""Run trials one after the other, in one of a search's worker processes."""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from filelock import FileLock
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import NopPruner
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from speech_emotion.config.tuning import RecipeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.process import process_name
from speech_emotion.tuning import study as studies
from speech_emotion.tuning.objective import Objective, SearchInputs, TrialInterruptedError

_POLL_SECONDS: Final = 1.0
"""How often an idle worker checks whether a trial of another one must be retried."""


@dataclass(frozen=True)
class WorkerTask:
    """What a worker needs to know: it ends after `trials` of the study, or at `deadline` (seconds since 1970)."""

    inputs: SearchInputs
    recipe: RecipeSettings
    study: str
    storage: studies.Storage
    trials: int
    deadline: float
    stop: str
    """A user attribute of the study; once it is set, the worker stops after the current epoch."""
    worker: int = 0


def work(task: WorkerTask) -> None:
    """Run trials until the budget or the time is used up. A failed trial is recorded with its reason."""
    # every trial has another network, so TensorFlow would warn about retracing
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with task.storage.errors_as_messages():
        _run_trials(task)


def _run_trials(task: WorkerTask) -> None:
    study = studies.create(task.study, task.storage, task.inputs.tune)
    objective = Objective(task.inputs, task.recipe, study=task.study, stopped=lambda: _is_over(study, task))
    # the full trainings at the end are compared by their final value only
    short = task.recipe == task.inputs.tune.recipe
    study.pruner = studies.pruner(task.inputs.tune, steps=objective.steps) if short else NopPruner()
    budget = studies.study_lock(task.study, "budget")
    while not _is_over(study, task):
        with budget:
            ran = _run_trial(study, objective, task, budget)
        if ran:
            continue
        if len(studies.finished(study)) >= task.trials:
            return
        time.sleep(_POLL_SECONDS)  # other workers run the last trials; if one dies, its trial is retried here


def _run_trial(study: Study, objective: Objective, task: WorkerTask, budget: FileLock) -> bool:
    """Run a trial unless the budget is used up; return whether one ran.

    The lock is released once the trial has started, so that workers never start more trials than the budget.
    """
    studies.retry_stale(study, task.storage)
    started = sum(trial.state is not TrialState.WAITING for trial in studies.last_attempts(study))
    if started >= task.trials:
        return False
    study.sampler = studies.sampler(task.inputs.tune, worker=task.worker, trials=started)
    ran: list[int] = []

    def run(trial: Trial) -> float | tuple[float, float]:
        studies.set_attribute(trial, studies.PROCESS, process_name())
        ran.append(trial.number)
        budget.release()
        try:
            return objective(trial)
        except Exception as error:
            # a database that was away for a moment is not the trial's fault
            interrupted = isinstance(error, TrialInterruptedError | StorageInternalError)
            with suppress(UpdateFinishedTrialError):
                studies.set_attribute(trial, studies.REASON, studies.INTERRUPTED if interrupted else _describe(error))
            raise

    try:
        study.optimize(run, n_trials=1, catch=(Exception,), callbacks=[_requeue_interrupted])
    except (UpdateFinishedTrialError, ValueError):
        # if its heartbeat was late, another worker has declared the trial dead and retries it
        if not any(trial.state.is_finished() for trial in studies.trials_of(study) if trial.number in ran):
            raise
    except (UnboundLocalError, AssertionError) as error:
        # Optuna 5.0 fails with these when it cannot write a trial's end to the database
        if isinstance(error.__context__, StorageInternalError):
            raise error.__context__ from error.__context__.__cause__
        raise
    return True


def _requeue_interrupted(study: Study, trial: FrozenTrial) -> None:
    if trial.state is TrialState.FAIL and studies.reason(trial) == studies.INTERRUPTED:
        studies.Retry()(study, trial)


def _is_over(study: Study, task: WorkerTask) -> bool:
    return time.time() >= task.deadline or task.stop in study.user_attrs


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text if isinstance(error, UserError) else f"{type(error).__name__}: {text}")[:500]
