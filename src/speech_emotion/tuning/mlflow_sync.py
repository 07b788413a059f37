"""Mirror a study in MLflow: a run for the study and, nested in it, a run for each trial that has ended.

Only the process that called `search` writes here, from what the study's storage contains. Values, steps and times come
from the study, and MLflow ignores a metric that it already has: after a kill, everything is simply sent again.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from optuna.exceptions import StorageInternalError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from speech_emotion.core.errors import first_line
from speech_emotion.tracking.connection import connect, experiment_id, flat, locate, timeouts
from speech_emotion.tracking.mlflow_run import LogEntry, Status, log_metrics, log_params, now
from speech_emotion.tuning.objective import SearchInputs
from speech_emotion.tuning.study import INTERRUPTED, KILLED, reason, study_lock, trial_name, trials_of

if TYPE_CHECKING:  # `connect` turns off MLflow's telemetry before the import
    from mlflow import MlflowClient

_PARENT: Final = "mlflow.parentRunId"
_STATES: Final = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class StudySync:
    """Send what is new in a study to MLflow. An error of MLflow is printed once and never stops the search."""

    def __init__(self, study: Study, inputs: SearchInputs, digests: Mapping[str, str], recipe: str) -> None:
        self._study, self._inputs, self._digests, self._recipe = study, inputs, dict(digests), recipe
        self._place = locate()
        self._reset()

    def update(self) -> None:
        """Send what is new, unless another call on this study is sending it."""
        with suppress(TimeoutError), study_lock(self._study.study_name, "mlflow", timeout=0):
            self._try(self._update)

    def finish(self, files: Sequence[Path], status: Status) -> None:
        """Send everything that MLflow lacks, add files as artifacts, and end the study's run."""
        self._reset()

        def finish() -> None:
            client = self._update()
            for path in files:
                client.log_artifact(self._parent, str(path), "study")
            client.set_terminated(self._parent, status=status)

        with study_lock(self._study.study_name, "mlflow"):
            self._try(finish)

    def _reset(self) -> None:
        self._failed = False
        self._experiment = self._parent = ""
        self._ended: set[int] = set()

    def _try(self, action: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            with timeouts(10, retries=0):
                action()
        except StorageInternalError:
            raise  # the study's own database is not reachable
        except Exception as error:  # any error of MLflow, its database or its server
            self._failed = True
            print(
                f"tune: cannot log to MLflow at {self._place.name} ({first_line(error)}). The search continues; what "
                "is missing is sent at its end or by the next call.",
                file=sys.stderr,
                flush=True,
            )

    def _update(self) -> "MlflowClient":
        client = connect(self._place)
        if not self._parent:
            self._experiment = experiment_id(client, self._place, f"{self._inputs.corpus.name}-tuning")
            self._parent = self._find_study_run(client) or self._create_study_run(client)
        finished = [trial for trial in trials_of(self._study) if trial.state.is_finished()]
        if any(trial.number not in self._ended for trial in finished):
            self._find_trial_runs(client)  # another call may have sent them
        for trial in finished:
            if trial.number not in self._ended:
                self._send_trial(client, trial)
        return client

    def _find_study_run(self, client: "MlflowClient") -> str:
        query = f"tags.study = '{self._study.study_name}' and tags.kind = 'study'"
        for run in client.search_runs([self._experiment], query, max_results=1):
            client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
        return ""

    def _create_study_run(self, client: "MlflowClient") -> str:
        tags = self._tags("study") | {f"digest.{key}": value for key, value in self._digests.items()}
        run = client.create_run(self._experiment, run_name=self._study.study_name, tags=tags)
        settings = self._inputs.tune.model_dump(mode="json", exclude={"storage", "space"})
        log_params(client, run.info.run_id, {"recipe": self._recipe, **flat({"tune": settings})})
        client.log_text(run.info.run_id, json.dumps(self._inputs.tune.space, indent=2) + "\n", "study/space.json")
        return str(run.info.run_id)

    def _find_trial_runs(self, client: "MlflowClient") -> None:
        query = f"tags.`{_PARENT}` = '{self._parent}'"
        for run in client.search_runs([self._experiment], query, max_results=50_000):
            number = int(run.data.tags["trial"])
            if run.info.status == "RUNNING":  # a process was killed while it sent the trial
                client.delete_run(run.info.run_id)
            else:
                self._ended.add(number)

    def _send_trial(self, client: "MlflowClient", trial: FrozenTrial) -> None:
        start, end = _milliseconds(trial.datetime_start), _milliseconds(trial.datetime_complete)
        why = reason(trial)
        # MLflow's active run is thread-local, so the parent is set explicitly
        tags = self._tags("trial") | {_PARENT: self._parent, "trial": str(trial.number), "state": _STATES[trial.state]}
        run = client.create_run(
            self._experiment, run_name=trial_name(trial), start_time=start, tags=tags | ({"reason": why} if why else {})
        ).info.run_id
        # Optuna stores no time of a step
        losses = [LogEntry(start + step, step, {"val_loss": loss}) for step, loss in trial.intermediate_values.items()]
        values = dict(zip(self._study.metric_names or [], trial.values or (), strict=False))
        log_metrics(client, run, [*losses, LogEntry(end, 0, values)])
        log_params(client, run, self._inputs.space.values(trial.params))
        status = "FINISHED" if not why else "KILLED" if why in {INTERRUPTED, KILLED} else "FAILED"
        client.set_terminated(run, status=status, end_time=end)
        self._ended.add(trial.number)

    def _tags(self, kind: str) -> dict[str, str]:
        corpus, protocol = self._inputs.corpus.name, self._inputs.tune.protocol
        return {"kind": kind, "study": self._study.study_name, "corpus": corpus, "protocol": protocol}


def _milliseconds(time: datetime | None) -> int:
    # Optuna's times are local and have no time zone
    return now() if time is None else int(time.timestamp() * 1000)
