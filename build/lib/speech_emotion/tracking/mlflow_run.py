"""Follow a training in MLflow, live, without ever stalling or failing it.

Each event is written to the event log first. A thread sends it, and stops at the first failure: the training continues,
and `registry.publish` sends what is missing.
"""

import getpass
import json
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from speech_emotion.tracking.connection import connect, experiment_id, first_line, locate, timeouts
from speech_emotion.tracking.event_log import EventLog, LogEntry, LogHeader, Status, TrainingInfo, is_gone, now

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SAMPLE_SECONDS: Final = 5.0
"""Between two samples of MLflow's system metrics."""
REQUEST_SECONDS: Final = 5
"""The longest time of one request during a training."""
FINISH_SECONDS: Final = 20.0
"""The longest time that a finished training waits for MLflow."""

# tags of a run
TRAINING_DIGEST: Final = "training_digest"
EVENT_LOG: Final = "event_log"
PROCESS: Final = "process"
RECORDED: Final = "recorded"
REASON: Final = "reason"


def find_or_create_run(client: "MlflowClient", experiment: str, log: EventLog) -> "Run":
    """Return the run of an event log."""
    found = client.search_runs([experiment], f"tags.{EVENT_LOG} = '{log.key}'", max_results=1)
    if found:
        return found[0]
    assert log.header is not None
    tags = {EVENT_LOG: log.key, PROCESS: log.process, RECORDED: "live"}
    return create_run(client, experiment, log.header, tags)


def create_run(client: "MlflowClient", experiment: str, header: LogHeader, tags: Mapping[str, str]) -> "Run":
    """Create a run with its parameters and with tags that lead back to its source and data."""
    training, source = header.training, header.source
    own = {
        "corpus": training.corpus,
        "protocol": training.protocol,
        "fold": training.fold,
        TRAINING_DIGEST: training.digest,
        **{f"digest.{key}": value for key, value in training.lineage.items()},
        # MLflow's pages show these in columns of their own
        "mlflow.user": _user(),
        "mlflow.source.name": "pipeline/train.py",
        **({} if source.source_dirty is None else {"mlflow.source.git.commit": source.commit}),
    }
    all_tags = {**own, **source.tags, **header.tags, **tags}
    run = client.create_run(experiment, start_time=header.time, run_name=training.name, tags=all_tags)
    log_params(client, run.info.run_id, training.params)
    if source.patch:
        with tempfile.TemporaryDirectory() as folder:
            patch = Path(folder) / "source.patch"
            # it contains the bytes of files, which may not be UTF-8
            patch.write_bytes(source.patch.encode("utf-8", "surrogateescape"))
            client.log_artifact(run.info.run_id, str(patch), "lineage")
    return run


def log_params(client: "MlflowClient", run_id: str, params: Mapping[str, Any]) -> None:
    """Log parameters; those that the run already has, with the same values, are ignored by MLflow."""
    from mlflow.entities import Param

    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in params.items()}
    client.log_batch(run_id, params=[Param(key, text) for key, text in texts.items()])


def log_metrics(client: "MlflowClient", run_id: str, entries: Iterable[LogEntry]) -> None:
    """Log the metrics of entries; a metric with the same time, step and value exists once in MLflow."""
    from mlflow.entities import Metric

    metrics = [
        Metric(key, float(value), entry.time, entry.step) for entry in entries for key, value in entry.metrics.items()
    ]
    client.log_batch(run_id, metrics=metrics)


def set_tags(client: "MlflowClient", run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags in one request."""
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def log_training_files(client: "MlflowClient", run_id: str, folder: Path) -> None:
    """Log the history and the record of a training as artifacts."""
    for path in (folder / name for name in ("history.csv", "training.json")):
        if path.exists():
            client.log_artifact(run_id, str(path), "training")


def end_run(client: "MlflowClient", run_id: str, status: Status, time: int, reason: str = "") -> None:
    """End a run at `time`, in milliseconds since 1970."""
    if reason:
        client.set_tag(run_id, REASON, reason[:500])
    client.set_terminated(run_id, status=status, end_time=time)


def mark_killed_runs(client: "MlflowClient", experiment: str) -> int:
    """Mark the runs whose process on this host was killed as KILLED, and return how many there were."""
    running = client.search_runs([experiment], "attributes.status = 'RUNNING'")
    killed = [run for run in running if PROCESS in run.data.tags and is_gone(run.data.tags[PROCESS])]
    for run in killed:
        client.set_terminated(run.info.run_id, status="KILLED", end_time=now())
    return len(killed)


def start(
    *,
    corpus: str,
    protocol: str,
    fold: str,
    training_digest: str,
    params: Mapping[str, Any],
    lineage: Mapping[str, str],
) -> "LiveRun":
    """Follow a training in MLflow; a training that was killed continues in the same run.

    Use the result as a context manager: call `epoch` after each epoch and `finish` at the end. A server that is dead,
    hangs or dies during the training costs a few seconds in all. `.scratch/tracking` keeps what was not sent, and
    `registry.publish` sends it. See `TrainingInfo` for the arguments.
    """
    return LiveRun(TrainingInfo(corpus, protocol, fold, training_digest, dict(params), dict(lineage)))


class LiveRun:
    """The MLflow run of a training in progress.

    No method fails because of MLflow, and only `finish` waits for it. Leaving the context without `finish` marks the
    run as failed or killed.
    """

    def __init__(self, training: TrainingInfo) -> None:
        self._training = training
        self._where = locate()
        self._log: EventLog | None = None
        self._epochs: set[int] = set()
        self._queue: queue.SimpleQueue[LogEntry] = queue.SimpleQueue()
        self._folder: Path | None = None
        self._ended = False
        self._timeouts = timeouts(REQUEST_SECONDS, retries=0)
        self._thread = threading.Thread(target=self._send, name="tracking", daemon=True)
        self._handles_sigterm = False

    def __enter__(self) -> Self:
        try:
            self._log = EventLog.open(self._training)
        except OSError as error:
            _warn(f"cannot write the event log ({error}); only `publish` will report this training to MLflow")
            self._ended = True
            return self
        for entry in self._log.entries:
            if entry.status is None:
                self._epochs.add(entry.step)
                self._queue.put(entry)
        self._timeouts.__enter__()
        self._handle_sigterm()
        self._thread.start()
        return self

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, counted from 1; an epoch that was logged before a kill is skipped."""
        if epoch not in self._epochs:
            self._epochs.add(epoch)
            self._add(LogEntry(now(), epoch, dict(metrics)))

    def finish(self, folder: Path) -> None:
        """End the run; `history.csv` and `training.json` in `folder` become artifacts."""
        self._folder = folder
        self._end("FINISHED")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._end("FAILED", "the training ended without a result")
        elif isinstance(error, Exception):
            self._end("FAILED", f"{type(error).__name__}: {error}")
        else:
            self._end("KILLED", type(error).__name__)

    def _end(self, status: Status, reason: str = "") -> None:
        if self._ended:
            return
        self._ended = True
        self._add(LogEntry(now(), status=status, reason=reason))
        # a training that is being killed must not wait long
        self._thread.join(FINISH_SECONDS if status == "FINISHED" else REQUEST_SECONDS)
        if self._thread.is_alive():
            _warn(f"MLflow at {self._where.uri} is slow; `publish` sends the rest")
        self._timeouts.__exit__(None, None, None)
        if self._handles_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _add(self, entry: LogEntry) -> None:
        if self._log is None:
            return
        try:
            self._log.add(entry)
        except OSError as error:
            _warn(f"{self._log.path}: cannot be written ({error}); `publish` reports this training to MLflow")
        self._queue.put(entry)

    def _send(self) -> None:
        """Send events as they come until the end was sent, or MLflow fails."""
        try:
            self._send_events()
        except Exception as error:  # no failure of MLflow, its server or its database may stop a training
            _warn(
                f"MLflow at {self._where.uri} does not accept this run ({first_line(error)}). Training continues; "
                "`publish` sends it later."
            )

    def _send_events(self) -> None:
        assert self._log is not None
        client = connect(self._where)
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        experiment = experiment_id(client, self._where, self._training.corpus)
        mark_killed_runs(client, experiment)
        run = find_or_create_run(client, experiment, self._log)
        run_id = run.info.run_id
        if run.data.tags[PROCESS] != self._log.process:
            _resume(client, run, self._log.process)
        monitor = SystemMetricsMonitor(
            run_id, sampling_interval=SAMPLE_SECONDS, resume_logging=True, tracking_uri=self._where.uri
        )
        monitor.start()
        while (entry := self._queue.get()).status is None:
            log_metrics(client, run_id, [entry])
        monitor.finish()
        # what was measured since the last sample; a short training has nothing else
        monitor.publish_metrics(monitor.aggregate_metrics())
        monitor.mlflow_logger.flush()
        if self._folder is not None:
            log_training_files(client, run_id, self._folder)
        end_run(client, run_id, entry.status, entry.time, entry.reason)
        self._log.mark_sent(self._where.uri)

    def _handle_sigterm(self) -> None:
        """Let SIGTERM raise SystemExit, so that the run is marked at once. The next training notices a kill -9."""
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _exit)
            self._handles_sigterm = True


def _resume(client: "MlflowClient", run: "Run", process: str) -> None:
    """Set a run that ended in another process back to running."""
    resumed = int(run.data.tags.get("resumed", "0")) + 1
    set_tags(client, run.info.run_id, {PROCESS: process, "resumed": str(resumed)})
    if REASON in run.data.tags:
        client.delete_tag(run.info.run_id, REASON)
    client.update_run(run.info.run_id, status="RUNNING")


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # in a container, a user may have no name
        return "unknown"


def _warn(message: str) -> None:
    print(f"tracking: {message}", file=sys.stderr, flush=True)
