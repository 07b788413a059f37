"""Takes a study; gives its likeness in MLflow: a run for the study, and below it one for each trial.

One process writes it, from what the study's storage says: so it is the same whatever number of workers there are and
wherever they run, nothing is told twice, and what was not told before a kill is told by the next call.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.tracking.connection import (
    MlflowLocation,
    connect,
    experiment_id,
    first_line,
    flat,
    locate,
    timeouts,
)
from speech_emotion.tracking.event_log import LogEntry, Status, now
from speech_emotion.tracking.mlflow_run import RunWriter
from speech_emotion.tuning.objective import Ground
from speech_emotion.tuning.study import HISTORY, describe, finished, reason

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from optuna import Study
    from optuna.trial import FrozenTrial

STUDY: Final = "study"
TRIAL: Final = "trial"
PARENT: Final = "mlflow.parentRunId"
FOLDER: Final = "study"
"""Where the pictures of a study lie among the artifacts of its run."""

_REQUEST_SECONDS: Final = 10
_MOST_RUNS: Final = 50_000


def experiment_name(corpus: str) -> str:
    """Return the name under which a corpus's searches are kept apart from its trainings."""
    return f"{corpus}-tuning"


class Follower:
    """Brings MLflow to what a study says. No method raises for MLflow's sake: the search goes on without it.

    Parameters
    ----------
    study : optuna.Study
    ground : Ground
    digests : mapping of str to str
        Of data, features and split.
    recipe : str
        How its trials are trained, in words.
    """

    def __init__(self, study: "Study", ground: Ground, digests: Mapping[str, str], *, recipe: str) -> None:
        self._study, self._ground, self._digests, self._recipe = study, ground, dict(digests), recipe
        self._where: MlflowLocation = locate()
        self._parent: RunWriter | None = None
        self._experiment = ""
        self._children: dict[int, RunWriter] = {}
        self._told: dict[int, str] = {}
        self._best: list[float] = []
        self._given_up = False

    def update(self) -> None:
        """Tell what is new."""
        self._try(self._update)

    def end(self, files: Sequence[Path], status: Status) -> None:
        """Tell what is new, hand over the study's pictures and tables, and end the study's run.

        Parameters
        ----------
        files : sequence of Path
        status : {"FINISHED", "KILLED", "FAILED"}
        """
        # what failed in the middle gets another chance, from the start
        self._given_up, self._parent = False, None
        self._children.clear()
        self._told.clear()
        self._best.clear()
        self._try(self._update)

        def finish() -> None:
            assert self._parent is not None
            for path in files:
                self._parent.file(path, FOLDER)
            self._parent.end(status, now())

        self._try(finish)

    def _try(self, action: Any) -> None:
        from optuna.exceptions import StorageInternalError

        if self._given_up:
            return
        try:
            with timeouts(_REQUEST_SECONDS, retries=0):
                action()
        except StorageInternalError:
            raise  # it is the study's own database that does not answer
        except Exception as error:  # whatever MLflow, its database or its server does is no reason to stop a search
            self._given_up = True
            print(
                f"tune: MLflow at {self._where.uri} does not take this study ({first_line(error)}). The search goes "
                "on; the end of it, or the next call, tells the rest.",
                file=sys.stderr,
                flush=True,
            )

    def _update(self) -> None:
        client = connect(self._where)
        if self._parent is None:
            self._experiment = experiment_id(client, self._where, experiment_name(self._ground.corpus.name))
            self._parent = self._find_or_make_parent(client)
            self._children = self._known_children(client)
        trials = self._study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state.name != "WAITING":
                self._tell(client, trial)
        self._tell_best(trials)

    def _find_or_make_parent(self, client: "MlflowClient") -> RunWriter:
        name = self._study.study_name
        found = client.search_runs([self._experiment], f"tags.{STUDY} = '{name}' and tags.kind = 'study'")
        if found:
            mirror = RunWriter(client, found[0])
            if mirror.status != "RUNNING":
                client.update_run(mirror.run_id, status="RUNNING")
            return mirror
        tags = {
            "kind": "study",
            STUDY: name,
            "corpus": self._ground.corpus.name,
            "protocol": self._ground.tune.protocol,
            "recipe": self._recipe,
            **{f"digest.{key}": value for key, value in self._digests.items()},
        }
        run = client.create_run(self._experiment, run_name=name, tags=tags)
        mirror = RunWriter(client, run, fresh=True)
        asked = self._ground.tune.model_dump(mode="json", exclude={"storage"})
        mirror.params({"recipe": self._recipe, **flat({"tune": {**asked, "space": None}})})
        mirror.text(json.dumps(asked["space"], indent=2) + "\n", f"{FOLDER}/space.json")
        return mirror

    def _known_children(self, client: "MlflowClient") -> dict[int, RunWriter]:
        assert self._parent is not None
        query = f"tags.`{PARENT}` = '{self._parent.run_id}'"
        found = client.search_runs([self._experiment], query, max_results=_MOST_RUNS)
        return {int(run.data.tags[TRIAL]): RunWriter(client, run) for run in found}

    def _tell(self, client: "MlflowClient", trial: "FrozenTrial") -> None:
        epochs = sum(len(values.get("val_uar", ())) for _, values in _histories(trial))
        state = f"{trial.state.name} {epochs} {len(trial.intermediate_values)}"
        if self._told.get(trial.number) == state:
            return
        if trial.number not in self._children:
            self._children[trial.number] = self._make_child(client, trial)
        mirror = self._children[trial.number]
        if mirror.status != "RUNNING":
            self._told[trial.number] = state
            return
        time = now()
        mirror.metrics(LogEntry(time, "epoch", step, {"val_uar": value}) for step, value in _reports(trial))
        for fold, values in _histories(trial):
            mirror.metrics(
                LogEntry(time, "epoch", number, {f"{fold}/{key}": column[number - 1] for key, column in values.items()})
                for number in range(1, len(values.get("val_uar", ())) + 1)
            )
        if trial.state.is_finished():
            self._end_child(mirror, trial)
        self._told[trial.number] = state

    def _make_child(self, client: "MlflowClient", trial: "FrozenTrial") -> RunWriter:
        assert self._parent is not None
        tags = {
            # MLflow's active run is one a thread: the parent is named, not found
            PARENT: self._parent.run_id,
            "kind": "trial",
            STUDY: self._study.study_name,
            TRIAL: str(trial.number),
            "corpus": self._ground.corpus.name,
            "protocol": self._ground.tune.protocol,
            "state": "running",
        }
        again = trial.system_attrs.get("retry_history", [])
        if again:
            tags["retry_of"] = f"trial-{again[-1]:03d}"
        run = client.create_run(
            self._experiment, run_name=describe(trial), start_time=_milliseconds(trial.datetime_start), tags=tags
        )
        return RunWriter(client, run, fresh=True)

    def _end_child(self, mirror: RunWriter, trial: "FrozenTrial") -> None:
        mirror.params(self._ground.space.chosen(trial.params))
        figures: dict[str, float] = {}
        if trial.duration is not None:
            figures["duration_seconds"] = trial.duration.total_seconds()
        if trial.state.name == "COMPLETE":
            figures |= dict(zip(self._study.metric_names or ["uar"], trial.values, strict=True))
        mirror.results(LogEntry(now(), "epoch", 0, figures))
        why = reason(trial)
        killed = why in {"interrupted", "its process was killed"}
        mirror.tags({"state": {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")})
        status: Status = "FINISHED" if not why else "KILLED" if killed else "FAILED"
        mirror.end(status, _milliseconds(trial.datetime_complete), why)

    def _tell_best(self, trials: list["FrozenTrial"]) -> None:
        assert self._parent is not None
        best = best_so_far(trials)
        if best == self._best:
            return
        self._best = best
        time = now()
        self._parent.metrics(
            LogEntry(time, "epoch", number, {"best_uar": value}) for number, value in enumerate(best, 1)
        )
        self._parent.results(LogEntry(time, "epoch", len(best), {"trials": float(len(finished(trials)))}))


def best_so_far(trials: list["FrozenTrial"]) -> list[float]:
    """Return the highest UAR after each complete trial, in the order of their ends."""
    ended = [trial for trial in finished(trials) if trial.state.name == "COMPLETE"]
    ended.sort(key=lambda trial: trial.datetime_complete or datetime.min)
    highest, values = -1.0, []
    for trial in ended:
        highest = max(highest, trial.values[0])
        values.append(highest)
    return values


def _reports(trial: "FrozenTrial") -> list[tuple[int, float]]:
    return sorted(trial.intermediate_values.items())


def _histories(trial: "FrozenTrial") -> list[tuple[str, dict[str, list[float]]]]:
    prefix = f"{HISTORY} "
    found = [(key[len(prefix) :], value) for key, value in trial.user_attrs.items() if key.startswith(prefix)]
    return sorted(found)


def _milliseconds(time: datetime | None) -> int:
    # Optuna's times are local and say no zone
    return now() if time is None else int(time.timestamp() * 1000)
