"""Run a search: start workers, follow their trials, train the best in full, and write the report."""

import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from speech_emotion.config.params import ComputeSettings
from speech_emotion.config.tuning import RecipeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing_folder
from speech_emotion.core.parallel import core_count
from speech_emotion.tuning import study as studies
from speech_emotion.tuning.mlflow_sync import StudySync
from speech_emotion.tuning.objective import SearchInputs
from speech_emotion.tuning.report import Winner, report_folder, write_report
from speech_emotion.tuning.worker import WorkerTask, work
from speech_emotion.tuning.worker_group import cluster_room, worker_group

_POLL_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 120.0
"""How long workers may take to finish their epoch when they are stopped."""


@dataclass(frozen=True)
class Outcome:
    """The result of a call of `search`: the winner if any trial is complete, and the folder of the report."""

    winner: Winner | None
    report: Path
    interrupted: bool
    """Whether Ctrl-C ended the call."""


def search(inputs: SearchInputs, compute: ComputeSettings) -> Outcome:
    """Start the study of these settings, or resume it, until its budget is used up.

    1. Many short trials (`tune.recipe`), the first of them with the current settings.
    2. The best of them and the current settings, trained as `train` does (`tune.promotion`). These decide.

    Raises a UserError if the settings cannot work, no worker could start, every trial failed, or the database was lost.
    """
    storage = studies.Storage.of(inputs.tune)
    with storage.errors_as_messages():
        return _search(inputs, compute, storage)


def _search(inputs: SearchInputs, compute: ComputeSettings, storage: studies.Storage) -> Outcome:
    tune, digests, name = inputs.tune, inputs.digests(), inputs.study_name()
    folds, workers = [fold.name for fold in inputs.folds], _worker_count(compute, storage)
    current, start, seconds = inputs.space.current(), time.time(), 60 * tune.minutes

    def run(study: Study, recipe: RecipeSettings, trials: int, deadline: float) -> tuple[StudySync, bool]:
        sync = StudySync(study, inputs, digests, str(recipe))
        task = WorkerTask(inputs, recipe, study.study_name, storage, trials, deadline, f"stop {uuid.uuid4()}")
        return sync, _run_trials(study, task, sync, compute, workers)

    study = studies.create(name, storage, tune)
    _enqueue(study, current)
    _log(f"study {name}, in {storage.location(name)}; folds: {', '.join(folds)}; {workers} worker{'s' * (workers > 1)}")
    share = tune.promotion.share if tune.promotion.trials else 0.0
    sync, interrupted = run(study, tune.recipe, tune.trials, start + (1 - share) * seconds)
    deciding, recipe, full = study, tune.recipe, None
    best = studies.ranked(study)[: tune.promotion.trials]
    if best and not interrupted:
        full = studies.create(f"{name}-full", storage, tune)
        _enqueue(full, current, *(trial.params for trial in best))
        _log(f"the best {len(best)} and the current settings, {inputs.full_recipe}")
        trials = len(studies.last_attempts(full))
        full_sync, interrupted = run(full, inputs.full_recipe, trials, start + seconds)
        full_sync.finish([], "KILLED" if interrupted else "FINISHED")
        if studies.ranked(full):
            deciding, recipe = full, inputs.full_recipe
    winner = _winner(inputs, deciding, recipe, digests)
    folder = report_folder(inputs.corpus.name)
    if winner or not (folder / "winner.json").exists():  # an earlier winner is kept until there is another one
        with replacing_folder(folder) as temporary:
            write_report(temporary, study, full, winner, seed=tune.seed)
    sync.finish(sorted(folder.iterdir()) if winner else [], "KILLED" if interrupted else "FINISHED")
    if winner is None and not interrupted:
        raise UserError(_why_no_winner(study))
    return Outcome(winner, folder, interrupted)


def _run_trials(study: Study, task: WorkerTask, sync: StudySync, compute: ComputeSettings, workers: int) -> bool:
    """Run until all trials have ended or the time is over; return whether Ctrl-C ended it."""
    stale = studies.retry_stale(study, task.storage)
    if stale:
        _log(f"{stale} trial{'s' * (stale > 1)} of killed processes will be retried")
    logged = {trial.number for trial in studies.trials_of(study) if trial.state.is_finished()}
    before, interrupted = len(logged), False
    if len(studies.finished(study)) >= task.trials or time.time() >= task.deadline:
        return False
    tasks = [replace(task, worker=number) for number in range(workers)]
    with worker_group(work, tasks, cluster=compute.cluster) as group:
        try:
            while group.wait(_POLL_SECONDS):
                with _delayed_interrupt():
                    _follow(study, task, sync, logged)
        except KeyboardInterrupt:
            interrupted = True
            _log("interrupted; running trials stop after their epoch and resume with the next call")
            study.set_user_attr(task.stop, True)
            with suppress(KeyboardInterrupt):
                group.wait(_STOP_SECONDS)
        losses = group.losses
    for loss in losses:
        _log(loss)
    studies.retry_stale(study, task.storage)
    _follow(study, task, sync, logged)
    if len(losses) == workers and not interrupted and len(logged) == before:
        raise UserError(f"no worker could start a trial: {losses[0]}. See the messages above.")
    return interrupted


def _follow(study: Study, task: WorkerTask, sync: StudySync, logged: set[int]) -> None:
    """Log the trials that have ended since the last call, and update MLflow."""
    for trial in studies.trials_of(study):
        if trial.state.is_finished() and trial.number not in logged:
            logged.add(trial.number)
            best = [f", best {one.values[0]:.4f} ({studies.trial_name(one)})" for one in studies.ranked(study)[:1]]
            done = f"{len(studies.finished(study))} of {task.trials}{''.join(best)}"
            _log(f"{studies.trial_name(trial)} {_result(trial)}; {done}")
    sync.update()


def _log(line: str) -> None:
    print(f"tune: {line}", flush=True)


def _worker_count(compute: ComputeSettings, storage: studies.Storage) -> int:
    if compute.cluster is None:
        return compute.workers or core_count()
    if storage.url is None:
        raise UserError(
            "compute.backend 'ray' needs a database in tune.storage: the journal of a study is a file on this machine, "
            "which several machines cannot share safely. See docs/scaling.md."
        )
    return compute.workers or cluster_room(compute.cluster)


def _enqueue(study: Study, *parameters: dict[str, object]) -> None:
    """Queue trials, each once."""
    with studies.study_lock(study.study_name, "budget"):
        for one in parameters:
            study.enqueue_trial(one, skip_if_exists=True)


def _winner(inputs: SearchInputs, study: Study, recipe: RecipeSettings, digests: dict[str, str]) -> Winner | None:
    trials, current = studies.ranked(study), inputs.space.current()
    if not trials:
        return None
    same = [round(float(trial.values[0]), 6) for trial in trials if trial.params == current]
    return Winner(
        study=study.study_name,
        trial=studies.trial_name(trials[0]),
        protocol=inputs.tune.protocol,
        nll=round(float(trials[0].values[0]), 6),
        current_nll=same[0] if same else None,
        recipe=str(recipe),
        values=inputs.space.values(trials[0].params),
        data=digests["data"],
        features=digests["features"],
    )


def _why_no_winner(study: Study) -> str:
    ended = studies.finished(study)
    if ended and all(trial.state is TrialState.FAIL for trial in ended):
        return f"all {len(ended)} trials of {study.study_name} failed; the first: {studies.reason(ended[0])}"
    return (
        "the time was over before a trial was complete. Increase tune.minutes or reduce tune.recipe; the same command "
        f"resumes study {study.study_name}."
    )


def _result(trial: FrozenTrial) -> str:
    seconds = "" if trial.duration is None else f" in {trial.duration.total_seconds():.0f} s"
    if trial.state is TrialState.COMPLETE:
        return f"complete, NLL {trial.values[0]:.4f}{seconds}"
    if trial.state is TrialState.PRUNED:
        return f"pruned after epoch {max(trial.intermediate_values, default=0)}{seconds}"
    return f"failed{seconds}: {studies.reason(trial)}"


@contextmanager
def _delayed_interrupt() -> Iterator[None]:
    """Delay Ctrl-C until the block ends: Optuna, SQLAlchemy and MLflow cannot be interrupted at any point."""
    pressed: list[int] = []
    usual = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        raise KeyboardInterrupt
