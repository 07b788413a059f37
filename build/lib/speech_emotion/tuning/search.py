"""Run a search: start workers, follow their trials, train the best in full, and write the report."""

import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.config.compute import ComputeSettings
from speech_emotion.config.tuning import RecipeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing_folder
from speech_emotion.core.parallel import cluster_room, core_count, crew
from speech_emotion.tuning import study as studies
from speech_emotion.tuning.mlflow_sync import StudySync
from speech_emotion.tuning.objective import SearchInputs
from speech_emotion.tuning.report import Winner, report_folder, write_report
from speech_emotion.tuning.worker import WorkerTask, work

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

_POLL_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 120.0
"""How long workers may take to finish their epoch when they are stopped."""


def _print(line: str) -> None:
    print(f"tune: {line}", flush=True)


@dataclass(frozen=True)
class Outcome:
    """The result of a call of `search`: the winner if any trial is complete, and the folder of the report."""

    winner: Winner | None
    report: Path
    interrupted: bool
    """Whether Ctrl-C ended the call."""


def search(
    inputs: SearchInputs,
    compute: ComputeSettings,
    *,
    log: Callable[[str], None] = _print,
    queue: Sequence[dict[str, Any]] = (),
) -> Outcome:
    """Start the study of these settings, or resume it, until its budget is used up.

    1. Many short trials (`tune.recipe`), the first of them with the current settings.
    2. The best of them and the current settings, trained as `train` does (`tune.promotion`). These decide.

    `log` receives a line for each trial that has ended. `queue` contains Optuna parameters of trials to run after the
    current settings.

    Raises
    ------
    UserError
        The settings cannot work, no worker could start, every trial failed, or the connection to the database was lost.
    """
    storage = studies.Storage.of(inputs.tune)
    with storage.errors_as_messages():
        return _search(inputs, compute, storage, log, queue)


def _search(
    inputs: SearchInputs,
    compute: ComputeSettings,
    storage: studies.Storage,
    log: Callable[[str], None],
    queue: Sequence[dict[str, Any]],
) -> Outcome:
    tune, digests, name = inputs.tune, inputs.digests(), inputs.study_name()
    workers = _worker_count(compute, storage)
    current, start, seconds = inputs.space.current(), time.time(), 60 * tune.minutes

    def phase(study: "Study", recipe: RecipeSettings, trials: int, deadline: float) -> _Phase:
        task = WorkerTask(inputs, recipe, study.study_name, storage, trials, deadline, uuid.uuid4().hex[:12])
        return _Phase(study, task, compute, StudySync(study, inputs, digests, str(recipe)), log)

    study = studies.create(name, storage, tune)
    _enqueue(study, [current, *queue], only_if_empty=True)
    log(f"study {name}, in {storage.location(name)}; {workers} worker{'s' * (workers > 1)}")
    share = tune.promotion.share if tune.promotion.trials else 0.0
    short = phase(study, tune.recipe, tune.trials, start + (1 - share) * seconds)
    interrupted = short.run(workers)
    deciding, recipe, full = study, tune.recipe, None
    if tune.promotion.trials and not interrupted and studies.ranked(study):
        full = studies.create(f"{name}-full", storage, tune)
        promoted = [trial.params for trial in studies.ranked(study)[: tune.promotion.trials]]
        _enqueue(full, [current, *promoted])
        log(f"the best {len(promoted)} and the current settings, {inputs.full_recipe}")
        last = phase(full, inputs.full_recipe, len(studies.last_attempts(full)), start + seconds)
        interrupted = last.run(workers)
        last.sync.finish([], "KILLED" if interrupted else "FINISHED")
        if studies.ranked(full):
            deciding, recipe = full, inputs.full_recipe
    winner = _winner(inputs, deciding, recipe, digests)
    folder = report_folder(inputs.corpus.name)
    with replacing_folder(folder) as temporary:
        write_report(temporary, study, full, winner, seed=tune.seed)
    short.sync.finish(sorted(folder.iterdir()), "KILLED" if interrupted else "FINISHED")
    if winner is None and not interrupted:
        raise UserError(_why_no_winner(study))
    return Outcome(winner, folder, interrupted)


@dataclass
class _Phase:
    """All trials of one study, trained by one recipe."""

    study: "Study"
    task: WorkerTask
    compute: ComputeSettings
    sync: StudySync
    log: Callable[[str], None]

    def __post_init__(self) -> None:
        self._start = time.time()
        self._before = {trial.number for trial in studies.trials_of(self.study) if trial.state.is_finished()}
        self._logged = set(self._before)

    def run(self, workers: int) -> bool:
        """Run until all trials have ended or the time is over; return whether Ctrl-C ended it."""
        stale = studies.retry_stale(self.study, self.task.storage)
        if stale:
            self.log(f"{stale} trial{'s' * (stale > 1)} of killed processes will be retried")
        if len(studies.finished(self.study)) >= self.task.trials or time.time() >= self.task.deadline:
            return False
        shared = workers > 1 and self.compute.cluster is None  # a cluster assigns GPUs itself
        tasks = [replace(self.task, worker=number, shared_gpus=shared) for number in range(workers)]
        interrupted = False
        with crew(work, tasks, cluster=self.compute.cluster) as team:
            try:
                while team.wait(_POLL_SECONDS):
                    with _delayed_interrupt():
                        self._follow()
            except KeyboardInterrupt:
                interrupted = True
                self.log("interrupted; running trials stop after their epoch and resume with the next call")
                studies.stop(self.study, self.task.call)
                with suppress(KeyboardInterrupt):
                    team.wait(_STOP_SECONDS)
            losses = team.losses
        for loss in losses:
            self.log(loss)
        studies.retry_stale(self.study, self.task.storage)
        self._follow()
        if len(losses) == workers and not interrupted and self._logged == self._before:
            raise UserError(f"no worker could start a trial: {losses[0]}. See the messages above.")
        return interrupted

    def _follow(self) -> None:
        """Log the trials that have ended since the last call, and update MLflow."""
        for trial in studies.trials_of(self.study):
            if trial.state.is_finished() and trial.number not in self._logged:
                self._logged.add(trial.number)
                self.log(f"{studies.trial_name(trial)} {_result(trial)}; {self._progress()}")
        # two calls may work on one study at the same time; one of them writes to MLflow
        with suppress(TimeoutError), studies.study_lock(self.study.study_name, "mlflow", timeout=0):
            self.sync.update()

    def _progress(self) -> str:
        done, here = len(studies.finished(self.study)), len(self._logged - self._before)
        left = (self.task.trials - done) * (time.time() - self._start) / max(1, here)
        left = max(0.0, min(left, self.task.deadline - time.time()))
        found = studies.ranked(self.study)
        best = f"best {found[0].values[0]:.4f} ({studies.trial_name(found[0])})" if found else "none complete yet"
        return f"{done} of {self.task.trials}, {best}, about {left / 60:.0f} min left"


def _worker_count(compute: ComputeSettings, storage: studies.Storage) -> int:
    if compute.cluster is None:
        return compute.workers or core_count()
    if storage.url is None:
        raise UserError(
            "compute.backend 'ray' needs a database in tune.storage: the journal of a study is a file on this machine, "
            "which several machines cannot share safely. See docs/scaling.md."
        )
    return compute.workers or cluster_room(compute.cluster)


def _enqueue(study: "Study", parameters: Sequence[dict[str, Any]], *, only_if_empty: bool = False) -> None:
    """Queue trials, each once."""
    with studies.study_lock(study.study_name, "budget"):
        if only_if_empty and studies.trials_of(study):
            return
        for one in parameters:
            study.enqueue_trial(one, skip_if_exists=True)


def _winner(inputs: SearchInputs, study: "Study", recipe: RecipeSettings, digests: dict[str, str]) -> Winner | None:
    trials, current = studies.ranked(study), inputs.space.current()
    if not trials:
        return None
    same = [trial.values[0] for trial in trials if trial.params == current]
    return Winner(
        study=study.study_name,
        trial=studies.trial_name(trials[0]),
        protocol=inputs.tune.protocol,
        nll=round(float(trials[0].values[0]), 6),
        current_nll=round(float(same[0]), 6) if same else None,
        recipe=str(recipe),
        values=inputs.space.values(trials[0].params),
        data=digests["data"],
        features=digests["features"],
    )


def _why_no_winner(study: "Study") -> str:
    ended = studies.finished(study)
    if ended and all(trial.state.name == "FAIL" for trial in ended):
        return f"all {len(ended)} trials of {study.study_name} failed; the first: {studies.reason(ended[0])}"
    return (
        "the time was over before a trial was complete. Increase tune.minutes or reduce tune.recipe; the same command "
        f"resumes study {study.study_name}."
    )


def _result(trial: "FrozenTrial") -> str:
    seconds = "" if trial.duration is None else f" in {trial.duration.total_seconds():.0f} s"
    if trial.state.name == "COMPLETE":
        return f"complete, NLL {trial.values[0]:.4f}{seconds}"
    if trial.state.name == "PRUNED":
        return f"pruned at step {max(trial.intermediate_values, default=0)}{seconds}"
    return f"failed{seconds}: {studies.reason(trial)}"


@contextmanager
def _delayed_interrupt() -> Iterator[None]:
    """Delay Ctrl-C until the block ends.

    Optuna, SQLAlchemy and MLflow cannot be interrupted at any point: they would leave a half applied log or a run that
    nobody ends.
    """
    pressed: list[int] = []
    usual = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        raise KeyboardInterrupt
