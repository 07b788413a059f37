"""Run trials one after the other, in one of a search's worker processes."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from typing import TYPE_CHECKING, Final

from filelock import FileLock

from speech_emotion.config.tuning import RecipeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.process import process_name
from speech_emotion.tuning import study as studies
from speech_emotion.tuning.objective import Objective, SearchInputs, TrialInterruptedError

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
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
    call: str
    """Identifies the call of `search`, so that it can be stopped."""
    worker: int = 0
    shared_gpus: bool = False
    """Whether several workers of this machine share its GPUs."""


def work(task: WorkerTask) -> None:
    """Run trials until the budget or the time is used up. A failed trial is recorded with its reason."""
    if task.shared_gpus:
        # before TensorFlow is imported, which reserves every GPU that it sees
        devices = os.environ.get(_VISIBLE) or ",".join(str(number) for number in range(len(glob("/dev/nvidia[0-9]*"))))
        if own := [name.strip() for name in devices.split(",") if name.strip()]:
            os.environ[_VISIBLE] = own[task.worker % len(own)]
    with task.storage.errors_as_messages():
        _run_trials(task)


def _run_trials(task: WorkerTask) -> None:
    from optuna.pruners import NopPruner

    study = studies.create(task.study, task.storage, task.inputs.tune)
    objective = Objective(
        task.inputs,
        task.recipe,
        study=task.study,
        prune=task.inputs.tune.second is None,
        stopped=lambda: _is_over(study, task),
    )
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


def _run_trial(study: "Study", objective: Objective, task: WorkerTask, budget: FileLock) -> bool:
    """Run a trial unless the budget is used up; return whether one ran.

    The lock is released once the trial has started, so that workers never start more trials than the budget.
    """
    from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError

    studies.retry_stale(study, task.storage)
    started = sum(trial.state.name != "WAITING" for trial in studies.last_attempts(study))
    if started >= task.trials:
        return False
    study.sampler = studies.sampler(task.inputs.tune, worker=task.worker, trials=started)
    numbers: list[int] = []

    def run(trial: "Trial") -> float | tuple[float, float]:
        trial.set_user_attr(studies.PROCESS, process_name())
        trial.set_user_attr(studies.NUMBER, trial.number)
        trial.set_user_attr(studies.REASON, "")
        trial.set_user_attr(studies.DEVICES, os.environ.get(_VISIBLE, ""))
        numbers.append(trial.number)
        frozen = next(one for one in studies.trials_of(study) if one.number == trial.number)
        budget.release()
        try:
            return objective(trial, first_attempt=int(frozen.system_attrs.get("failed_trial", frozen.number)))
        except Exception as error:
            # a database that was away for a moment is not the trial's fault
            interrupted = isinstance(error, TrialInterruptedError | StorageInternalError)
            with suppress(UpdateFinishedTrialError):
                trial.set_user_attr(studies.REASON, studies.INTERRUPTED if interrupted else _describe(error))
            raise

    try:
        study.optimize(run, n_trials=1, catch=(Exception,), callbacks=[_requeue_interrupted])
    except (UpdateFinishedTrialError, ValueError):
        # if its heartbeat was late, another worker has declared the trial dead and retries it
        if not any(trial.state.is_finished() for trial in studies.trials_of(study) if trial.number in numbers):
            raise
    except (UnboundLocalError, AssertionError) as error:
        # Optuna 5.0 fails with these when it cannot write a trial's end to the database
        lost = error.__context__
        if not isinstance(lost, StorageInternalError):
            raise
        raise lost from lost.__cause__
    return True


def _requeue_interrupted(study: "Study", trial: "FrozenTrial") -> None:
    if trial.state.name == "FAIL" and trial.user_attrs.get(studies.REASON) == studies.INTERRUPTED:
        studies.requeue(study, trial)


def _is_over(study: "Study", task: WorkerTask) -> bool:
    return time.time() >= task.deadline or studies.is_stopped(study, task.call)


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text if isinstance(error, UserError) else f"{type(error).__name__}: {text}")[:500]
