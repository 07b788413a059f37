"""Takes the settings of a search; gives its Optuna study, wherever that is stored, and what is true of its trials."""

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from filelock import FileLock

from speech_emotion.config.tuning import TuneSettings
from speech_emotion.core.errors import UserError
from speech_emotion.tracking.event_log import is_gone

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage, RDBStorage
    from optuna.trial import FrozenTrial

STUDIES: Final = Path("tuning") / "studies"
"""Where the journals of studies lie."""

# what a trial knows of itself, beside its parameters
PROCESS: Final = "process"
REASON: Final = "reason"
HISTORY: Final = "history"
NUMBER: Final = "number"
DEVICES: Final = "devices"

INTERRUPTED: Final = "interrupted"
NAMELESS_SECONDS: Final = 60.0
"""That a running trial may be without the name of its process, which it gets as the first thing."""


@dataclass(frozen=True)
class Storage:
    """Where studies are kept.

    Attributes
    ----------
    url : str or None
        Of a database; None: a journal in `folder`.
    folder : Path
    heartbeat_seconds : int
    retries : int
        Of a trial whose process was killed.
    """

    url: str | None
    folder: Path
    heartbeat_seconds: int
    retries: int

    def open(self, name: str) -> "BaseStorage":
        """Open the storage of a study.

        Raises
        ------
        UserError
            The database does not answer.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if self.url is None:
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend

            self.folder.mkdir(parents=True, exist_ok=True)
            journal = self.journal(name)
            # The system takes this lock from who is killed. Optuna's own is a link, which then stays behind: others
            # wait half a minute for it, and for ever if the journal's path is relative (Optuna 5.0), for they look at
            # what the link leads to, and that is not beside it.
            lock = FileLock(f"{journal}.held", poll_interval=0.005)
            return JournalStorage(JournalFileBackend(str(journal), lock))  # type: ignore[arg-type]
        from sqlalchemy.exc import SQLAlchemyError

        with _unwarned():
            try:
                return _database()(
                    self.url,
                    engine_kwargs={"pool_pre_ping": True},
                    heartbeat_interval=self.heartbeat_seconds,
                    heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(self.retries),
                )
            except (SQLAlchemyError, ImportError, ValueError) as error:
                raise UserError(
                    f"tune.storage: the database {self.shown} does not answer ({_first_line(error)})."
                ) from None

    def journal(self, name: str) -> Path:
        """Return the file of a study's journal."""
        return self.folder / f"{name}.journal"

    def place(self, name: str) -> str:
        """Return where a study is, in words: its journal, or the address of the database."""
        return str(self.journal(name)) if self.url is None else self.shown

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Have a database that goes away meanwhile named in one message.

        Raises
        ------
        UserError
            It no longer answers.
        """
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import InterfaceError, OperationalError

        try:
            yield
        except (StorageInternalError, OperationalError, InterfaceError) as error:
            # Optuna puts its own words, which speak of a commit, around what the driver says
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            if not isinstance(cause, OperationalError | InterfaceError):
                raise
            raise UserError(
                f"tune.storage: the database {self.shown} no longer answers. What has ended is kept: the same command "
                "goes on when it does."
            ) from None

    @property
    def shown(self) -> str:
        """The address, without what may be a password."""
        if self.url is None:
            return str(self.folder)
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"


def storage_of(settings: TuneSettings) -> Storage:
    """Return where params.yaml has studies kept.

    Raises
    ------
    UserError
        The environment lacks a name that the address needs, or it is a database that bears one writer alone.
    """
    url = settings.storage
    if url is not None:
        url = os.path.expandvars(url)
        if "${" in url:
            name = url.partition("${")[2].partition("}")[0]
            raise UserError(f"tune.storage: the environment has no {name}, which the address asks for.")
        if "://" not in url or url.startswith("sqlite"):
            raise UserError(
                "tune.storage: expected the URL of a database that bears several writers, such as "
                "postgresql+psycopg2://user@host/name, or null for a journal on this machine. SQLite locks up."
            )
    return Storage(url, STUDIES, settings.heartbeat_seconds, settings.retries)


def create(name: str, storage: Storage, settings: TuneSettings) -> "Study":
    """Open a study, which is made where there is none."""
    import optuna

    directions: list[Literal["maximize", "minimize"]] = ["maximize"]
    if settings.second is not None:
        directions.append("minimize")
    study = optuna.create_study(study_name=name, storage=storage.open(name), directions=directions, load_if_exists=True)
    with _unwarned():
        study.set_metric_names(["uar"] if settings.second is None else ["uar", settings.second])
    return study


def sampler(settings: TuneSettings, *, worker: int, trials: int) -> "BaseSampler":
    """Return the sampler of one trial.

    A sampler that is made anew with the same seed would repeat its trials: the seed is derived from the study's, the
    worker and the number of trials so far, and one is made for every trial. So a search that was cut off goes on with
    the very trials of one that was not.
    """
    from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([settings.seed, worker, trials]).generate_state(1)[0])
    if settings.sampler == "random":
        return RandomSampler(seed=seed)
    if settings.sampler == "nsga-ii":
        return NSGAIISampler(seed=seed, population_size=10)
    with _unwarned():
        return TPESampler(seed=seed, multivariate=True, n_startup_trials=10)


def pruner(settings: TuneSettings, *, steps: int) -> "BasePruner":
    """Return the pruner; `steps` are the epochs of a trial, over all folds."""
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    chosen = settings.pruner
    if chosen.kind == "none":
        return NopPruner()
    if chosen.kind == "hyperband":
        lowest = min(chosen.warmup_epochs, steps)
        return HyperbandPruner(min_resource=lowest, max_resource=steps, reduction_factor=3)
    return MedianPruner(n_startup_trials=chosen.startup_trials, n_warmup_steps=chosen.warmup_epochs)


def distinct(trials: Sequence["FrozenTrial"]) -> list["FrozenTrial"]:
    """Return the trials that count: of one that was cut off and tried again, the last try."""
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [trial for trial in trials if trial.number not in again]


def finished(trials: Sequence["FrozenTrial"]) -> list["FrozenTrial"]:
    """Return the trials that count and have ended."""
    return [trial for trial in distinct(trials) if trial.state.is_finished()]


def first_try(trial: "FrozenTrial") -> int:
    """Return the number under which a trial was begun."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def reason(trial: "FrozenTrial") -> str:
    """Return why a trial failed; empty where it did not."""
    if trial.state.name != "FAIL":
        return ""
    return str(trial.user_attrs.get(REASON) or "its process was killed")


def release_the_dead(study: "Study", storage: Storage) -> int:
    """Have the trials of killed processes tried again, and return how many there were.

    A database has Optuna's heartbeat, which tells of other machines too; a journal has none, so the name of its process
    is with every trial, and on the same machine one can see whether that still runs.
    """
    import optuna
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    ran = {trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
    with _unwarned():
        optuna.storages.fail_stale_trials(study)
        again = optuna.storages.RetryHeartbeatStaleTrialCallback(storage.retries)
    failed_since = study.get_trials(deepcopy=False, states=(TrialState.FAIL,)) if ran else []
    # a worker that sees its trial fail says why
    found = sum(trial.number in ran and not trial.user_attrs.get(REASON) for trial in failed_since)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _is_dead(trial):
            continue
        try:
            failed = study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):
            continue  # another worker has found it
        found += 1
        again(study, failed)
    return found


def requeue(study: "Study", trial: "FrozenTrial") -> None:
    """Have a trial that was interrupted tried again by whoever comes next."""
    import optuna

    with _unwarned():
        optuna.storages.RetryHeartbeatStaleTrialCallback(None)(study, trial)


def best(study: "Study") -> "FrozenTrial | None":
    """Return the complete trial of the highest UAR, the first of equals; None: none is complete."""
    complete = [trial for trial in distinct(study.get_trials(deepcopy=False)) if trial.state.name == "COMPLETE"]
    return max(complete, key=lambda trial: (trial.values[0], -trial.number), default=None)


def describe(trial: "FrozenTrial") -> str:
    """Return a trial's name, as MLflow and messages have it."""
    return f"trial-{trial.number:03d}"


def _is_dead(trial: "FrozenTrial") -> bool:
    # a trial that is tried again brings what it knew of itself, until it has told its new process
    process = trial.user_attrs.get(PROCESS)
    if process is None or trial.user_attrs.get(NUMBER) != trial.number:
        began = trial.datetime_start
        return began is not None and (datetime.now() - began).total_seconds() > NAMELESS_SECONDS
    return is_gone(str(process))


def _database() -> type["RDBStorage"]:
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage

    class Database(RDBStorage):
        """Takes a sign of life that does not arrive for no reason to give no more of them."""

        def record_heartbeat(self, trial_id: int) -> None:
            # Optuna's thread would end here, with a traceback; whether the database is gone, the trial itself will see
            with contextlib.suppress(StorageInternalError):
                super().record_heartbeat(trial_id)

    return Database


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Hold back Optuna's warnings that something is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"


def open_study(name: str, storage: Storage) -> "Study":
    """Open a study that exists, as a worker does."""
    import optuna

    return optuna.load_study(study_name=name, storage=storage.open(name))


def is_stopped(study: "Study", call: str) -> bool:
    """Tell whether the call that a worker belongs to was told to end."""
    attributes: dict[str, Any] = study.user_attrs
    return bool(attributes.get(f"stop {call}"))


def stop(study: "Study", call: str) -> None:
    """Tell the workers of a call to end at the next epoch."""
    study.set_user_attr(f"stop {call}", True)
