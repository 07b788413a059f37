"""Follow a training in MLflow, live, without ever stalling or failing it.

A thread sends what the training reports, and stops at the first failure: the training continues, and
`registry.publish` completes its run from its files.
"""

import getpass
import json
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from speech_emotion.core.errors import first_line
from speech_emotion.core.process import is_gone, process_name
from speech_emotion.tracking.connection import connect, experiment_id, locate, timeouts
from speech_emotion.tracking.lineage import dvc_tags, source_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]

REQUEST_SECONDS: Final = 5
FINISH_SECONDS: Final = 20
"""The longest time of one request during a training, and for that a finished training waits for MLflow."""

# tags of a run
MODEL_DIGEST: Final = "model_digest"
PROCESS: Final = "process"


@dataclass(frozen=True)
class TrainingInfo:
    """A training: `digest` covers what determines weights and calibration, `lineage` has those of its inputs."""

    corpus: str
    protocol: str
    fold: str
    digest: str
    params: Mapping[str, Any]
    lineage: Mapping[str, str]


@dataclass(frozen=True)
class LogEntry:
    """The metrics of a step; `time` is in milliseconds since 1970."""

    time: int
    step: int
    metrics: Mapping[str, float]


def now() -> int:
    """Return the time in milliseconds since 1970, as MLflow stores it."""
    return int(time.time() * 1000)


def create_run(client: "MlflowClient", group: str, training: TrainingInfo, *, started: int, recorded: str) -> "Run":
    """Create a run in the experiment `group`, with its parameters and tags that lead back to its source and data."""
    tags = source_tags(Path()) | dvc_tags(Path(), training.corpus)
    tags |= {
        "corpus": training.corpus,
        "protocol": training.protocol,
        "fold": training.fold,
        "recorded": recorded,
        MODEL_DIGEST: training.digest,
        PROCESS: process_name(),
        # MLflow's pages show these in columns of their own
        "mlflow.user": user(),
        "mlflow.source.name": "pipeline/train.py",
    }
    tags |= {f"digest.{key}": value for key, value in training.lineage.items()}
    if tags["git.source_dirty"] != "unknown":
        tags["mlflow.source.git.commit"] = tags["git.commit"]
    run = client.create_run(group, start_time=started, run_name=f"{training.protocol}/{training.fold}", tags=tags)
    log_params(client, run.info.run_id, training.params)
    return run


def log_params(client: "MlflowClient", run_id: str, params: Mapping[str, Any]) -> None:
    """Log parameters; those that the run already has, with the same values, are ignored by MLflow."""
    from mlflow.entities import Param

    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in params.items()}
    client.log_batch(run_id, params=[Param(key, text) for key, text in texts.items()])


def log_metrics(client: "MlflowClient", run_id: str, entries: Iterable[LogEntry]) -> None:
    """Log the metrics of entries."""
    from mlflow.entities import Metric

    values = [Metric(key, value, entry.time, entry.step) for entry in entries for key, value in entry.metrics.items()]
    client.log_batch(run_id, metrics=values)


def log_training_files(client: "MlflowClient", run_id: str, folder: Path) -> None:
    """Log the Keras model, the history and the record of a training as artifacts."""
    for name in ("architecture.json", "history.csv", "model.weights.h5", "training.json"):
        client.log_artifact(run_id, str(folder / name), "training")


def find_run(client: "MlflowClient", experiment: str, digest: str) -> "Run | None":
    """Return the newest finished run of a training, else one that was cut off."""
    runs = client.search_runs([experiment], f"tags.{MODEL_DIGEST} = '{digest}'")
    return next(iter(sorted(runs, key=lambda run: bool(run.info.status != "FINISHED"))), None)


def user() -> str:
    """Return the user's name; in a container, a user may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


class LiveRun:
    """The MLflow run of a training in progress, as a context manager; a killed training continues in the same run.

    Call `epoch` after each epoch and `finish` at the end; leaving without `finish` marks the run as failed or killed.
    No method fails because of MLflow, and only its end waits for it, for seconds.
    """

    def __init__(self, training: TrainingInfo) -> None:
        self._training = training
        self._queue: queue.SimpleQueue[LogEntry | None] = queue.SimpleQueue()
        self._folder: Path | None = None
        self._outcome: tuple[Status, str, int] | None = None
        self._thread = threading.Thread(target=self._send, name="tracking", daemon=True)

    def __enter__(self) -> Self:
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            # so that the run is marked at once; the next training notices a kill -9
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self._thread.start()
        return self

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, counted from 1; an epoch that was logged before a kill is skipped."""
        self._queue.put(LogEntry(now(), epoch, dict(metrics)))

    def finish(self, folder: Path) -> None:
        """End the run; `history.csv` and `training.json` in `folder` become artifacts."""
        self._folder = folder
        self._end("FINISHED")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._end("FAILED", "the training ended without a result")
        elif isinstance(error, Exception):
            self._end("FAILED", f"{type(error).__name__}: {error}")
        else:
            self._end("KILLED", type(error).__name__)

    def _end(self, status: Status, reason: str = "") -> None:
        if self._outcome is not None:
            return
        self._outcome = status, reason[:500], now()
        self._queue.put(None)
        # a training that is being killed must not wait long
        self._thread.join(FINISH_SECONDS if status == "FINISHED" else REQUEST_SECONDS)
        if self._thread.is_alive():
            print("tracking: MLflow is slow; `publish` sends the rest", file=sys.stderr, flush=True)

    def _send(self) -> None:
        """Send entries as they come until the end, or until MLflow fails."""
        try:
            with timeouts(REQUEST_SECONDS, retries=0):
                self._send_entries()
        except Exception as error:  # no failure of MLflow, its server or its database may stop a training
            what = f"cannot log to MLflow ({first_line(error)}). Training continues; `publish` sends it later."
            print(f"tracking: {what}", file=sys.stderr, flush=True)

    def _send_entries(self) -> None:
        where = locate()
        client = connect(where)
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        experiment = experiment_id(client, where, self._training.corpus)
        for one in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
            if PROCESS in one.data.tags and is_gone(one.data.tags[PROCESS]):
                client.set_terminated(one.info.run_id, status="KILLED", end_time=now())
        run = find_run(client, experiment, self._training.digest)
        if run is None or run.info.status == "RUNNING":
            run = create_run(client, experiment, self._training, started=now(), recorded="live")
        else:  # it was cut off, or ended before DVC recorded its stage and is repeated from its checkpoint
            client.set_tag(run.info.run_id, PROCESS, process_name())
            client.update_run(run.info.run_id, status="RUNNING")
        run_id = str(run.info.run_id)
        logged = {metric.step for metric in client.get_metric_history(run_id, "loss")}
        monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True, tracking_uri=where.uri)
        monitor.start()
        try:
            while (entry := self._queue.get()) is not None:
                if entry.step not in logged:
                    log_metrics(client, run_id, [entry])
        finally:
            monitor.finish()
        # what was measured since the last sample; a short training has nothing else
        monitor.publish_metrics(monitor.aggregate_metrics())
        monitor.mlflow_logger.flush()
        if self._folder is not None:
            log_training_files(client, run_id, self._folder)
        assert self._outcome is not None
        status, reason, ended = self._outcome
        client.set_tag(run_id, "reason", reason)
        client.set_terminated(run_id, status=status, end_time=ended)
