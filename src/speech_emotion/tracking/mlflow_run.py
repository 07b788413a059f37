"""Takes a training as it goes; gives one MLflow run that follows it live and never holds it up, and where MLflow is.

What is to be told lies in a journal on disk before it is sent. A thread sends it, and stops at the first failure: the
training goes on, and `publishing` reads the journal and sends what is missing.
"""

import getpass
import json
import os
import queue
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import psutil

from speech_emotion.tracking.event_log import Entry, Header, Journal, Status, Training, is_gone, now

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

SAMPLE_SECONDS: Final = 10.0
"""Between two samples of the system metrics."""
REQUEST_SECONDS: Final = 5
"""That a request of a training may take; MLflow's own default is 120, and seven retries."""
FINISH_SECONDS: Final = 20.0
"""That the end of a training waits at most for what is not sent yet."""

# tags of a run
TRAINING_DIGEST: Final = "training_digest"
JOURNAL: Final = "journal"
PROCESS: Final = "process"
RECORDED: Final = "recorded"
REASON: Final = "reason"

TRAINING_FILES: Final = ("history.csv", "training.json")

# what MLflow takes in one request
_PARAMS_A_REQUEST: Final = 100
_METRICS_A_REQUEST: Final = 1000


@dataclass(frozen=True)
class Place:
    """Where MLflow keeps runs and the registry.

    Attributes
    ----------
    uri : str
        The tracking URI.
    artifacts : Path or None
        The folder of artifacts; None: the server knows.
    """

    uri: str
    artifacts: Path | None

    @property
    def is_missing(self) -> bool:
        """Whether it is a database file that is not there; MLflow would make the one that it is asked about."""
        return self.uri.startswith("sqlite:///") and not Path(self.uri.removeprefix("sqlite:///")).exists()

    @property
    def hint(self) -> str:
        """How to look at it."""
        if self.uri.startswith(("http://", "https://")):
            return f"open {self.uri}"
        database = Path(self.uri.removeprefix("sqlite:///"))
        if not self.uri.startswith("sqlite:///") or database.name != "mlflow.db":
            return f"mlflow ui --backend-store-uri '{self.uri}'"
        return "mlflow ui" if database.parent == Path.cwd() else f"(cd '{database.parent}' && mlflow ui)"


def home() -> Path:
    """Return the root of the repository: DVC's where a stage runs, else the nearest folder with a params.yaml."""
    if os.environ.get("DVC_ROOT"):
        # `dvc exp run --temp` works in a folder that will be removed, and lets DVC_ROOT name the one that stays
        return Path(os.environ["DVC_ROOT"]).resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "params.yaml").exists()), here)


def place() -> Place:
    """Return where MLflow is: MLFLOW_TRACKING_URI, else where a bare `mlflow ui` in the root looks for it."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(home() / 'mlflow.db').as_posix()}"
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///")).resolve()
        return Place(f"sqlite:///{database.as_posix()}", database.parent / "mlruns")
    if uri.startswith(("http://", "https://")):
        return Place(uri.rstrip("/"), None)
    return Place(uri, home() / "mlruns")


def model_name(corpus: str) -> str:
    """Return the name that a corpus's experiment and its registered model share."""
    return f"speech-emotion-{corpus}"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted keys, as MLflow lists parameters."""
    items: dict[str, Any] = {}
    for key, value in values.items():
        items |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return items


def hush() -> None:
    """Turn MLflow's telemetry and chatter off; it looks when it is imported, so whoever imports it calls this first."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # a new database otherwise reports every step of its making
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def connect(where: Place) -> "MlflowClient":
    """Import MLflow, quiet and with its telemetry off, and return its client; nothing is sent yet."""
    hush()
    from mlflow import MlflowClient

    if where.uri.startswith("sqlite:///") and where.artifacts is not None:
        _make_database(Path(where.uri.removeprefix("sqlite:///")), where.artifacts)
    return MlflowClient(tracking_uri=where.uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or where.uri)


def _make_database(database: Path, artifacts: Path) -> None:
    """Make MLflow's database aside and put it in place whole: MLflow cannot go on where its making was cut off."""
    if database.exists() or not database.parent.is_dir():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    try:
        # a name is used once: MLflow keeps its connections by their address, also those to a file that is gone
        with tempfile.TemporaryDirectory(prefix=f"{database.name}.", dir=database.parent) as folder:
            aside = Path(folder) / database.name
            SqlAlchemyStore(f"sqlite:///{aside.as_posix()}", artifacts.as_posix()).engine.dispose()
            with suppress(FileExistsError):  # another process was faster
                os.link(aside, database)
    except Exception:  # MLflow then makes it by itself, or says why it cannot
        return


@contextmanager
def fluent(where: Place) -> Iterator[None]:
    """Have what in MLflow takes no client work at a place; left alone, it makes a database in the working folder."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(where.uri)
    try:
        yield
    finally:
        # None lets the environment speak again
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


@contextmanager
def patience(seconds: int, *, retries: int) -> Iterator[None]:
    """Have MLflow's requests end after `seconds`, tried again `retries` times; what the user has set stays."""
    wanted = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries)}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def experiment_id(client: "MlflowClient", where: Place, corpus: str) -> str:
    """Return the id of a corpus's experiment, which is made where there is none."""
    from mlflow.exceptions import MlflowException

    name = model_name(corpus)
    found = client.get_experiment_by_name(name)
    if found is None:
        location = None if where.artifacts is None else (where.artifacts / name).as_uri()
        try:
            # MLflow's pages otherwise show an experiment as one about prompts and agents
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(name, artifact_location=location, tags=kind))
        except MlflowException:
            # two trainings may make it at the same moment, and one of them does
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def end_the_killed(client: "MlflowClient", experiment: str) -> int:
    """Mark the runs whose process on this host was killed as KILLED, and return how many there were."""
    running = client.search_runs([experiment], "attributes.status = 'RUNNING'")
    killed = [run for run in running if PROCESS in run.data.tags and is_gone(run.data.tags[PROCESS])]
    for run in killed:
        client.set_terminated(run.info.run_id, status="KILLED", end_time=now())
    return len(killed)


def is_running(client: "MlflowClient", experiment: str) -> bool:
    """Tell whether any run is RUNNING: what becomes of its process is not in MLflow, and has to be looked for."""
    return bool(client.search_runs([experiment], "attributes.status = 'RUNNING'", max_results=1))


class Mirror:
    """One run of MLflow, which is brought to what a journal, or the files of a training, say.

    Nothing is sent twice: a metric that MLflow has at a step stays as it is.

    Parameters
    ----------
    client : MlflowClient
    run : mlflow.entities.Run
    fresh : bool
        Whether the run was made just now, so that nothing needs to be asked for.
    """

    def __init__(self, client: "MlflowClient", run: "MlflowRun", *, fresh: bool = False) -> None:
        self.client, self.run_id, self.status = client, run.info.run_id, run.info.status
        self._tags, self._params = dict(run.data.tags), set(run.data.params)
        self._newest = dict(run.data.metrics)
        self._told: dict[str, set[int]] = {}
        self._fresh = fresh

    @classmethod
    def of_journal(cls, client: "MlflowClient", experiment: str, journal: Journal) -> Self:
        """Find the journal's run, or make it."""
        found = client.search_runs([experiment], f"tags.{JOURNAL} = '{journal.key}'", max_results=1)
        if found:
            return cls(client, found[0])
        assert journal.header is not None
        live = {JOURNAL: journal.key, PROCESS: journal.process, RECORDED: "live"}
        return cls.make(client, experiment, journal.header, live)

    @classmethod
    def make(cls, client: "MlflowClient", experiment: str, header: Header, tags: Mapping[str, str]) -> Self:
        """Make a run with its parameters and all the tags that lead back to its state."""
        training, source = header.training, header.source
        own = {
            "corpus": training.corpus,
            "protocol": training.protocol,
            "fold": training.fold,
            TRAINING_DIGEST: training.digest,
            **{f"digest.{key}": value for key, value in training.lineage.items()},
            # MLflow's pages show these in places of their own
            "mlflow.user": _user(),
            "mlflow.source.name": "pipeline/train.py",
            **({} if source.source_dirty is None else {"mlflow.source.git.commit": source.commit}),
        }
        run = client.create_run(
            experiment,
            start_time=header.time,
            run_name=training.name,
            tags={**own, **source.tags, **header.tags, **tags},
        )
        mirror = cls(client, run, fresh=True)
        mirror.params(training.params)
        if source.patch:
            mirror.text(source.patch, "lineage/source.patch")
        return mirror

    def params(self, params: Mapping[str, Any]) -> None:
        """Log the parameters that the run has not."""
        from mlflow.entities import Param

        missing = [
            Param(key, value if isinstance(value, str) else json.dumps(value, default=str))
            for key, value in params.items()
            if key not in self._params
        ]
        for start in range(0, len(missing), _PARAMS_A_REQUEST):
            self.client.log_batch(self.run_id, params=missing[start : start + _PARAMS_A_REQUEST])

    def metrics(self, entries: Iterable[Entry]) -> None:
        """Log the metrics of entries, but those that the run has at their step."""
        from mlflow.entities import Metric

        batch: list[Metric] = []
        for entry in entries:
            for key, value in entry.metrics.items():
                steps = self._steps(key)
                if entry.step not in steps:
                    steps.add(entry.step)
                    batch.append(Metric(key, float(value), entry.time, entry.step))
        for start in range(0, len(batch), _METRICS_A_REQUEST):
            self.client.log_batch(self.run_id, metrics=batch[start : start + _METRICS_A_REQUEST])

    def results(self, entry: Entry) -> None:
        """Log metrics of which the newest value counts, but those whose value the run has."""
        from mlflow.entities import Metric

        changed = {key: value for key, value in entry.metrics.items() if self._newest.get(key) != value}
        self.client.log_batch(
            self.run_id, metrics=[Metric(key, value, entry.time, entry.step) for key, value in changed.items()]
        )

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set the tags that differ."""
        for key, value in tags.items():
            if self._tags.get(key) != value:
                self.client.set_tag(self.run_id, key, value)
                self._tags[key] = value

    def file(self, path: Path, folder: str) -> None:
        """Log a file as an artifact in a folder."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def text(self, text: str, path: str) -> None:
        """Log a text as an artifact."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(path).name
            # a patch holds the bytes of files, which may be no UTF-8
            file.write_bytes(text.encode("utf-8", "surrogateescape"))
            self.file(file, Path(path).parent.as_posix())

    def training_files(self, folder: Path) -> None:
        """Log a training's history and record as artifacts."""
        for path in (folder / name for name in TRAINING_FILES):
            if path.exists():
                self.file(path, "training")

    def resume(self, process: str) -> None:
        """Set a run that had ended back to running, in another process."""
        if self._fresh:
            return
        self.tags({PROCESS: process, "resumed": str(int(self._tags.get("resumed", "0")) + 1)})
        if REASON in self._tags:
            self.client.delete_tag(self.run_id, REASON)
        self.client.update_run(self.run_id, status="RUNNING")

    def end(self, status: Status, time: int, reason: str = "") -> None:
        """End the run, at `time` (ms since 1970)."""
        if reason:
            self.tags({REASON: reason[:500]})
        self.client.set_terminated(self.run_id, status=status, end_time=time)
        self.status = status

    def _steps(self, key: str) -> set[int]:
        if key not in self._told:
            history = [] if self._fresh else self.client.get_metric_history(self.run_id, key)
            self._told[key] = {metric.step for metric in history}
        return self._told[key]


def start(
    *,
    corpus: str,
    protocol: str,
    fold: str,
    training_digest: str,
    params: Mapping[str, Any],
    lineage: Mapping[str, str],
) -> "Run":
    """Follow a training in MLflow: one run, live.

    Parameters
    ----------
    corpus, protocol, fold : str
    training_digest : str
        Of all that decides the weights. A training that was killed goes on in the same run.
    params : mapping of str to Any
        Settings, by dotted keys.
    lineage : mapping of str to str
        Digests of what the training was made from.

    Returns
    -------
    Run
        A context manager; call `epoch` for each epoch, and `finish` in the end.

    Notes
    -----
    MLflow that is dead, hangs or dies in the middle costs the training a few seconds in all, and nothing is lost: the
    journal in .scratch/tracking holds what was not sent, and `publish.publish` sends it.
    """
    return Run(Training(corpus, protocol, fold, training_digest, dict(params), dict(lineage)))


class Run:
    """A training's run, live; leaving it without `finish` says that the training failed or was killed.

    No method raises for MLflow's sake, and none but the last waits for it.
    """

    def __init__(self, training: Training) -> None:
        self._training = training
        self._where = place()
        self._journal: Journal | None = None
        self._events: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._epochs: set[int] = set()
        self._samples = 0
        self._sampler = _Sampler()
        self._folder: Path | None = None
        self._ended = False
        self._closed = False
        self._patience = patience(REQUEST_SECONDS, retries=0)
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._caught_sigterm = False

    def __enter__(self) -> Self:
        try:
            self._journal = Journal.open(self._training)
        except OSError as error:
            _warn(f"no journal can be kept ({error}); MLflow hears of this training from `publish` alone")
            self._ended = True
            return self
        self._epochs = {entry.step for entry in self._journal.entries if entry.kind == "epoch"}
        self._samples = sum(entry.kind == "system" for entry in self._journal.entries)
        for entry in self._journal.entries:
            if entry.kind != "end":
                self._events.put(entry)
        self._patience.__enter__()
        self._catch_sigterm()
        self._thread.start()
        return self

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tell the metrics of an epoch, from 1; one that was told before a kill is not told again."""
        if epoch not in self._epochs:
            self._epochs.add(epoch)
            self._add(Entry(now(), "epoch", epoch, dict(metrics)))

    def finish(self, folder: Path) -> None:
        """Tell that the training has ended well, and wait some seconds at most until MLflow knows.

        Parameters
        ----------
        folder : Path
            Holds `history.csv` and `training.json`, which become artifacts of the run.
        """
        self._folder = folder
        self._end("FINISHED")

    def fail(self, reason: str) -> None:
        """Tell that the training has failed, and why."""
        self._end("FAILED", reason)

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
        # a short training has this one sample
        self._sample()
        self._add(Entry(now(), "end", status=status, reason=reason))
        # who kills a training does not want to wait
        self._thread.join(FINISH_SECONDS if status == "FINISHED" else REQUEST_SECONDS)
        if self._thread.is_alive():
            _warn(f"MLflow at {self._where.uri} is slow; `publish` sends the rest")
        self._patience.__exit__(None, None, None)
        if self._caught_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _add(self, entry: Entry) -> None:
        if self._journal is None:
            return
        try:
            with self._lock:
                # a sample that comes after the end would undo it
                if self._closed:
                    return
                self._closed = entry.kind == "end"
                self._journal.add(entry)
        except OSError as error:
            _warn(f"{self._journal.path}: cannot be written ({error}); `publish` tells MLflow of this training")
        self._events.put(entry)

    def _sample(self) -> None:
        if self._journal is None:
            return
        try:
            metrics = self._sampler.sample()
        except (psutil.Error, OSError):
            # a container may close what they are read from
            return
        with self._lock:
            self._samples += 1
            number = self._samples
        self._add(Entry(now(), "system", number, metrics))

    def _work(self) -> None:
        """Send events as they come, and sample the machine in between, until the end has been sent."""
        assert self._journal is not None
        due = time.monotonic() + SAMPLE_SECONDS
        mirror = self._begin(self._journal)
        ended = False
        while not ended:
            entries = self._wait(until=due)
            ended = any(entry.kind == "end" for entry in entries)
            if not ended and time.monotonic() >= due:
                due = time.monotonic() + SAMPLE_SECONDS
                # it comes back as an event
                self._sample()
            if mirror is not None and not self._send(mirror, entries, self._journal):
                mirror = None

    def _begin(self, journal: Journal) -> Mirror | None:
        try:
            client = connect(self._where)
            experiment = experiment_id(client, self._where, self._training.corpus)
            end_the_killed(client, experiment)
            mirror = Mirror.of_journal(client, experiment, journal)
            mirror.resume(journal.process)
            return mirror
        except Exception as error:  # whatever MLflow, its database or its server does is no reason to stop a training
            self._give_up(error)
            return None

    def _send(self, mirror: Mirror, entries: Sequence[Entry], journal: Journal) -> bool:
        try:
            mirror.metrics(entries)
            for entry in entries:
                if entry.status is not None:
                    if self._folder is not None:
                        mirror.training_files(self._folder)
                    mirror.end(entry.status, entry.time, entry.reason)
                    journal.mark_sent(self._where.uri)
            return True
        except Exception as error:  # as in _begin
            self._give_up(error)
            return False

    def _wait(self, *, until: float) -> list[Entry]:
        """Wait for an event, but not beyond `until` (of the monotonic clock), and return all that there are."""
        entries: list[Entry] = []
        try:
            entries.append(self._events.get(timeout=max(0.0, until - time.monotonic())))
            while True:
                entries.append(self._events.get_nowait())
        except queue.Empty:
            return entries

    def _give_up(self, error: Exception) -> None:
        _warn(
            f"MLflow at {self._where.uri} does not take this run ({first_line(error)}). Training goes on; "
            "`publish` sends it later."
        )

    def _catch_sigterm(self) -> None:
        """Have SIGTERM unwind the stack, so that the run is marked at once; a kill -9 is noticed by who comes next."""
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _leave)
            self._caught_sigterm = True


class _Sampler:
    """The use of processor, memory, disk and network, the machine's and this process's, under MLflow's names."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        # a share is of the time since the last call: the first call of each tells nothing
        self._process.cpu_percent()
        psutil.cpu_percent()
        self._network = _network_megabytes()

    def sample(self) -> dict[str, float]:
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(os.sep)
        received, transmitted = _network_megabytes()
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": memory.percent,
            "disk_usage_percentage": disk.percent,
            "disk_available_megabytes": disk.free / 1e6,
            "network_receive_megabytes": received - self._network[0],
            "network_transmit_megabytes": transmitted - self._network[1],
            "process_cpu_percentage": self._process.cpu_percent(),
            "process_memory_megabytes": self._process.memory_info().rss / 1e6,
        }
        return {f"system/{name}": round(value, 1) for name, value in values.items()}


def first_line(error: BaseException) -> str:
    """Return an exception as one short line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # in a container a user may be no more than a number
        return "unknown"


def _network_megabytes() -> tuple[float, float]:
    try:
        counters = psutil.net_io_counters()
    except OSError:
        counters = None
    # a machine without a network has no counters, and a closed container may not read them
    return (0.0, 0.0) if counters is None else (counters.bytes_recv / 1e6, counters.bytes_sent / 1e6)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _warn(message: str) -> None:
    print(f"tracking: {message}", file=sys.stderr, flush=True)
