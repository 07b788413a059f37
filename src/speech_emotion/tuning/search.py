"""Takes the settings of a search; runs its trials among workers, and gives the winner with its report."""

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from filelock import FileLock

from speech_emotion.config.compute import ComputeSettings
from speech_emotion.config.tuning import RecipeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing_folder
from speech_emotion.core.parallel import cluster_room, core_count, crew
from speech_emotion.core.process import SCRATCH
from speech_emotion.tuning.best_trial import Winner, report_folder, write_tables, write_winner
from speech_emotion.tuning.mlflow_sync import Follower
from speech_emotion.tuning.objective import Ground, in_words
from speech_emotion.tuning.study import (
    Storage,
    best,
    create,
    describe,
    distinct,
    finished,
    reason,
    release_the_dead,
    stop,
    storage_of,
)
from speech_emotion.tuning.worker import Shift, work

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

LOOK_SECONDS: Final = 2.0
"""Between two looks at what the workers have done."""
END_SECONDS: Final = 120.0
"""That workers have to come to the end of their epoch, when they are told to stop."""
FULL: Final = "full"
"""After the study's name: its best trials, by the recipe of the training itself."""


def _say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True)
class Outcome:
    """What a call of `search` came to.

    Attributes
    ----------
    winner : Winner or None
        None: no trial is complete yet.
    report : Path
        The folder of tables and pictures.
    page : Path
        The interactive pictures.
    interrupted : bool
        Whether Ctrl-C ended it.
    """

    winner: Winner | None
    report: Path
    page: Path
    interrupted: bool


def search(
    ground: Ground,
    compute: ComputeSettings,
    *,
    say: Callable[[str], None] = _say,
    queue: Sequence[dict[str, object]] = (),
) -> Outcome:
    """Begin the study of these settings, or go on with it, until its budget is used up.

    Parameters
    ----------
    ground : Ground
    compute : ComputeSettings
        Where trials run. On a cluster the storage has to be a database.
    say : callable
        Takes a line for each trial that has ended.
    queue : sequence of dict of str to Any
        Optuna's parameters of trials to begin with, after the present settings.

    Raises
    ------
    UserError
        The search cannot work as it is set, no worker could, every trial failed, or the database of the study went
        away; says why.
    """
    storage = storage_of(ground.tune)
    with storage.answering():
        return _search(ground, compute, storage, say, queue)


def _search(
    ground: Ground,
    compute: ComputeSettings,
    storage: Storage,
    say: Callable[[str], None],
    queue: Sequence[dict[str, object]],
) -> Outcome:
    workers = _workers(compute, storage)
    digests = ground.digests()
    name = ground.study_name()
    began = time.time()
    ends = began + 60 * ground.tune.minutes
    promoted = ground.tune.promotion
    study = create(name, storage, ground.tune)
    _enqueue(study, [ground.space.current(), *queue], only_first=True)
    say(f"tune: study {name}, in {storage.place(name)}; {workers} worker{'s' * (workers > 1)}")
    first = _Run(ground, compute, storage, study, ground.tune.recipe, digests, say)
    until = ends - 60 * ground.tune.minutes * promoted.share if promoted.trials else ends
    interrupted = first.go(workers, ground.tune.trials, until)
    deciding, recipe, full = study, ground.tune.recipe, None
    if promoted.trials and not interrupted and best(study) is not None:
        full = create(f"{name}-{FULL}", storage, ground.tune)
        chosen = _promoted(study, promoted.trials)
        _enqueue(full, [ground.space.current(), *(dict(trial.params) for trial in chosen)])
        last = _Run(ground, compute, storage, full, ground.full, digests, say)
        budget = len(distinct(full.get_trials(deepcopy=False)))
        say(f"tune: the best {len(chosen)} and the present settings, {in_words(ground.full)}")
        interrupted = last.go(workers, budget, ends)
        last.follow.end([], "KILLED" if interrupted else "FINISHED")
        if best(full) is not None:
            deciding, recipe = full, ground.full
    winner = _winner(ground, deciding, recipe, digests)
    folder = report_folder(ground.corpus.name)
    page = storage.folder / f"{name}.html"
    with replacing_folder(folder) as aside:
        write_tables(study, ground.space, aside, promoted=full, page=page, seed=ground.tune.seed)
        if winner is not None:
            write_winner(winner, aside)
    first.follow.end([*sorted(folder.iterdir()), page], "KILLED" if interrupted else "FINISHED")
    if winner is None and not interrupted:
        _explain(study)
    return Outcome(winner, folder, page, interrupted)


class _Run:
    """A study's trials, by one recipe, from its state to a budget."""

    def __init__(
        self,
        ground: Ground,
        compute: ComputeSettings,
        storage: Storage,
        study: "Study",
        recipe: RecipeSettings,
        digests: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._ground, self._compute, self._storage, self._study = ground, compute, storage, study
        self._recipe, self._say = recipe, say
        self.follow = Follower(study, ground, digests, recipe=in_words(recipe))
        self._began = time.time()
        self._ended_before = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
        self._told = set(self._ended_before)

    def go(self, workers: int, trials: int, until: float) -> bool:
        """Run until `trials` have ended, or the time has come; tell whether Ctrl-C ended it."""
        found = release_the_dead(self._study, self._storage)
        if found:
            self._say(f"tune: {found} trial{'s' * (found > 1)} of killed processes will be tried again")
        if len(finished(self._study.get_trials(deepcopy=False))) >= trials or time.time() >= until:
            return False
        call = uuid.uuid4().hex[:12]
        shifts = [
            Shift(
                ground=self._ground,
                recipe=self._recipe,
                study=self._study.study_name,
                storage=self._storage,
                worker=number,
                # on a cluster each task is given devices of its own
                neighbours=1 if self._compute.cluster else workers,
                trials=trials,
                ends=until,
                call=call,
            )
            for number in range(workers)
        ]
        interrupted = False
        with crew(work, shifts, cluster=self._compute.cluster) as team:
            try:
                while team.wait(LOOK_SECONDS):
                    with _ctrl_c_waits():
                        self._look(trials, until)
            except KeyboardInterrupt:
                interrupted = True
                self._say("tune: interrupted; the trials that run end with their epoch, and go on with the next call")
                stop(self._study, call)
                with suppress(KeyboardInterrupt):
                    team.wait(END_SECONDS)
            losses = team.losses
        for loss in losses:
            self._say(f"tune: {loss}")
        release_the_dead(self._study, self._storage)
        self._look(trials, until)
        if len(losses) == workers and not interrupted and self._told == self._ended_before:
            raise UserError(f"no worker could begin a trial: {losses[0]}. The lines above say more.")
        return interrupted

    def _look(self, trials: int, until: float) -> None:
        """Say what has ended since the last look, a line a trial, and bring MLflow up to it."""
        now = self._study.get_trials(deepcopy=False)
        for trial in now:
            if trial.state.is_finished() and trial.number not in self._told:
                self._told.add(trial.number)
                self._say(f"tune: {describe(trial)} {_outcome(trial)}; {self._summary(now, trials, until)}")
        with suppress(TimeoutError), _alone(self._study.study_name):
            self.follow.update()

    def _summary(self, now: list["FrozenTrial"], trials: int, until: float) -> str:
        done = len(finished(now))
        fresh = len(self._told - self._ended_before)
        left = min((trials - done) * (time.time() - self._began) / max(1, fresh), until - time.time())
        found = best(self._study)
        highest = "none complete yet" if found is None else f"best {found.values[0]:.4f} ({describe(found)})"
        return f"{done} of {trials}, {highest}, about {max(0.0, left) / 60:.0f} min left"


def _workers(compute: ComputeSettings, storage: Storage) -> int:
    cluster = compute.cluster
    if cluster is None:
        return compute.workers or core_count()
    if storage.url is None:
        raise UserError(
            "compute.backend 'ray' with tune.storage null: the journal of a study is a file on this machine, which is "
            "safe among its processes and not among machines, and shows no sign of life of a node that died. Name a "
            "database in tune.storage: docs/scaling.md says how."
        )
    return compute.workers or cluster_room(cluster)


def _enqueue(study: "Study", parameters: Sequence[dict[str, object]], *, only_first: bool = False) -> None:
    """Put trials in front, each once; with `only_first` only into a study that has none."""
    with FileLock(_folder(study.study_name) / "ticket"):
        if only_first and study.get_trials(deepcopy=False):
            return
        for one in parameters:
            study.enqueue_trial(one, skip_if_exists=True)


def _promoted(study: "Study", count: int) -> list["FrozenTrial"]:
    """Return the best complete trials, of equal parameters the first."""
    complete = [trial for trial in distinct(study.get_trials(deepcopy=False)) if trial.state.name == "COMPLETE"]
    complete.sort(key=lambda trial: (-trial.values[0], trial.number))
    unlike: list[FrozenTrial] = []
    for trial in complete:
        if all(trial.params != other.params for other in unlike):
            unlike.append(trial)
    return unlike[:count]


def _winner(ground: Ground, study: "Study", recipe: RecipeSettings, digests: dict[str, str]) -> Winner | None:
    found = best(study)
    if found is None:
        return None
    present = ground.space.current()
    same = [trial for trial in distinct(study.get_trials(deepcopy=False)) if trial.params == present and trial.values]
    return Winner(
        study=study.study_name,
        trial=describe(found),
        protocol=ground.tune.protocol,
        uar=round(float(found.values[0]), 6),
        present_uar=round(float(same[0].values[0]), 6) if same else None,
        recipe=in_words(recipe),
        values=ground.space.values(found.params),
        data=digests["data"],
        features=digests["features"],
    )


def _explain(study: "Study") -> None:
    """Say why a search came to nothing."""
    ended = finished(study.get_trials(deepcopy=False))
    failed = [trial for trial in ended if trial.state.name == "FAIL"]
    if ended and len(failed) == len(ended):
        raise UserError(f"all {len(failed)} trials of {study.study_name} failed; the first: {reason(failed[0])}")
    raise UserError(
        "the time was up before a trial was complete. Raise tune.minutes, or lower tune.recipe; the same command goes "
        f"on with study {study.study_name}."
    )


def _outcome(trial: "FrozenTrial") -> str:
    seconds = "" if trial.duration is None else f" in {trial.duration.total_seconds():.0f} s"
    if trial.state.name == "COMPLETE":
        return f"complete, UAR {trial.values[0]:.4f}{seconds}"
    if trial.state.name == "PRUNED":
        return f"pruned at step {max(trial.intermediate_values, default=0)}{seconds}"
    return f"failed{seconds}: {reason(trial)}"


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Have the first Ctrl-C wait until what is done here is done; a second one does not.

    What Optuna, SQLAlchemy and MLflow do in between was not made to be left anywhere: a log half applied, a run that
    nobody knows of, an interrupt that is printed and lost.
    """
    pressed: list[int] = []

    def later(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or usual is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, later)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        raise KeyboardInterrupt


def _folder(study: str) -> Path:
    folder = SCRATCH / "tune" / study
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _alone(study: str) -> FileLock:
    # two calls at once on one study: one of them writes to MLflow
    return FileLock(_folder(study) / "mlflow", timeout=0)
