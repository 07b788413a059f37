"""Open Optuna studies in a journal or a database, and answer questions about their trials."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from speech_emotion.config.tuning import TuneSettings
from speech_emotion.core.errors import UserError, first_line, mask_credentials
from speech_emotion.core.process import SCRATCH, is_gone

STUDIES: Final = Path("tuning") / "studies"
"""Folder of the journals."""

# attributes of a trial
PROCESS: Final = "process"
REASON: Final = "reason"
FIRST_ATTEMPT: Final = "first_attempt"
"""Number of a trial's first attempt, recorded once all parameters are chosen."""

INTERRUPTED: Final = "interrupted"
KILLED: Final = "process was killed"

_START_SECONDS: Final = 60.0
"""A running trial without a process is stale after this time: recording it is the first thing that a worker does."""


class _Database(RDBStorage):
    """A database whose heartbeat survives a failed beat."""

    def record_heartbeat(self, trial_id: int) -> None:
        # Optuna's heartbeat thread would end here with a traceback; the trial itself notices a lost database
        with suppress(StorageInternalError):
            super().record_heartbeat(trial_id)


class Retry(RetryHeartbeatStaleTrialCallback):
    """Queue a failed trial again, with its parameters, at most so many times."""

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Queue the trial."""
        if FIRST_ATTEMPT not in trial.user_attrs:
            # killed between two parameters: the sampler, seeded as before, chooses the same ones again
            trial.params, trial.distributions = {}, {}
        super().__call__(study, trial)


@dataclass(frozen=True)
class Storage:
    """A database for studies or, if `url` is None, a journal file for each in `STUDIES`."""

    url: str | None
    heartbeat_seconds: int
    retries: int
    """Of a trial whose process was killed."""

    @classmethod
    def of(cls, settings: TuneSettings) -> "Storage":
        """Return the storage of params.yaml; raise a UserError if its URL cannot be used."""
        url = None if settings.storage is None else os.path.expandvars(settings.storage)
        if url is not None and "${" in url:
            name = url.partition("${")[2].partition("}")[0]
            raise UserError(f"tune.storage: the environment variable {name} is not set.")
        if url is not None and ("://" not in url or url.startswith("sqlite")):
            raise UserError(
                "tune.storage: expected the URL of a database for several writers, such as "
                "postgresql+psycopg2://user@host/name, or null for a journal on this machine. SQLite deadlocks."
            )
        return cls(url, settings.heartbeat_seconds, settings.retries)

    def open(self, study: str) -> BaseStorage:
        """Open the storage of a study; raise a UserError if the database is not reachable."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=ExperimentalWarning)
        if self.url is None:
            journal = Path(self.location(study))
            journal.parent.mkdir(parents=True, exist_ok=True)
            # The system releases this lock when a process is killed. Optuna's own lock is a symbolic link, which a
            # killed process leaves behind: others then wait half a minute, or forever if the path is relative.
            lock = FileLock(f"{journal}.held", poll_interval=0.005)
            return JournalStorage(JournalFileBackend(str(journal), lock))  # type: ignore[arg-type]
        try:
            return _Database(
                self.url,
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=self.heartbeat_seconds,
                heartbeat_stale_trial_callback=Retry(self.retries),
            )
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise UserError(f"tune.storage: cannot reach the database {self.url} ({first_line(error)}).") from None

    def location(self, study: str) -> str:
        """Return the path of a study's journal, or the address of the database without its password."""
        return (STUDIES / f"{study}.journal").as_posix() if self.url is None else mask_credentials(self.url)

    @contextmanager
    def errors_as_messages(self) -> Iterator[None]:
        """Report a lost connection to the database as a UserError."""
        try:
            yield
        except (StorageInternalError, OperationalError, InterfaceError):
            raise UserError(
                f"tune.storage: lost the connection to the database {self.url}. Finished trials are kept; run the "
                "same command again to resume."
            ) from None


def create(name: str, storage: Storage, settings: TuneSettings) -> Study:
    """Open a study, and create it if it does not exist."""
    metrics = ["nll"] if settings.second is None else ["nll", settings.second]
    study = optuna.create_study(
        study_name=name, storage=storage.open(name), directions=["minimize"] * len(metrics), load_if_exists=True
    )
    study.set_metric_names(metrics)
    return study


def study_lock(name: str, purpose: str, *, timeout: float = -1) -> FileLock:
    """Return a lock of a study on this machine."""
    folder = SCRATCH / "tune" / name
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / purpose, timeout=timeout)


def sampler(settings: TuneSettings, *, worker: int, trials: int) -> BaseSampler:
    """Return the sampler of one trial.

    Each trial has a sampler of its own, seeded by the study's seed, the worker and the number of trials so far. So a
    resumed search tries what an uninterrupted one would have tried; one seed for all would repeat trials.
    """
    seed = int(np.random.SeedSequence([settings.seed, worker, trials]).generate_state(1)[0])
    if settings.sampler == "random":
        return RandomSampler(seed=seed)
    if settings.sampler == "nsga_ii":
        return NSGAIISampler(seed=seed, population_size=10)
    return TPESampler(seed=seed, multivariate=True)


def pruner(settings: TuneSettings, *, steps: int) -> BasePruner:
    """Return the pruner; `steps` are the epochs of a trial over all folds."""
    chosen = settings.pruner
    if chosen.kind == "none":
        return NopPruner()
    if chosen.kind == "hyperband":
        return HyperbandPruner(min_resource=min(chosen.warmup_epochs, steps), max_resource=steps, reduction_factor=3)
    return MedianPruner(n_startup_trials=chosen.startup_trials, n_warmup_steps=chosen.warmup_epochs)


def set_attribute(trial: Trial, name: str, value: Any) -> None:
    """Store an attribute of this attempt at a trial."""
    # Optuna copies attributes to a retried trial, where they would be those of the attempt before
    trial.set_user_attr(f"{name} {trial.number}", value)


def attribute(trial: FrozenTrial, name: str) -> Any:
    """Return an attribute of this attempt at a trial, or None."""
    return trial.user_attrs.get(f"{name} {trial.number}")


def trials_of(study: Study, *states: TrialState) -> list[FrozenTrial]:
    """Return every attempt at every trial, or those in one of some states."""
    return study.get_trials(deepcopy=False, states=states or None)


def last_attempts(study: Study) -> list[FrozenTrial]:
    """Return the trials, without attempts that were retried."""
    trials = trials_of(study)
    retried = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [trial for trial in trials if trial.number not in retried]


def finished(study: Study) -> list[FrozenTrial]:
    """Return the trials that have ended."""
    return [trial for trial in last_attempts(study) if trial.state.is_finished()]


def ranked(study: Study) -> list[FrozenTrial]:
    """Return the complete trials, lowest loss first."""
    complete = [trial for trial in last_attempts(study) if trial.state is TrialState.COMPLETE]
    return sorted(complete, key=lambda trial: (trial.values[0], trial.number))


def reason(trial: FrozenTrial) -> str:
    """Return why a trial failed; empty if it did not."""
    return str(attribute(trial, REASON) or KILLED) if trial.state is TrialState.FAIL else ""


def trial_name(trial: FrozenTrial | Trial) -> str:
    """Return a trial's name in MLflow and messages."""
    return f"trial-{trial.number:03d}"


def retry_stale(study: Study, storage: Storage) -> int:
    """Queue the trials of killed processes again, and return how many there were.

    A database has Optuna's heartbeat, which works across machines. A journal has none: each trial records its process,
    and this machine knows whether that is alive.
    """
    before = {trial.number for trial in trials_of(study, TrialState.RUNNING)}
    optuna.storages.fail_stale_trials(study)
    for trial in trials_of(study, TrialState.RUNNING):
        if _is_stale(trial):
            with suppress(ValueError, UpdateFinishedTrialError):  # another worker was faster
                Retry(storage.retries)(study, study.tell(trial.number, state=TrialState.FAIL))
    return sum(trial.number in before and reason(trial) == KILLED for trial in trials_of(study, TrialState.FAIL))


def _is_stale(trial: FrozenTrial) -> bool:
    process = attribute(trial, PROCESS)
    if process is not None:
        return is_gone(process)
    start = trial.datetime_start
    return start is not None and (datetime.now() - start).total_seconds() > _START_SECONDS
