"""Takes a workspace; gives an MLflow that agrees with it: a run for every training, a registered version, `challenger`.

What is there is known by content digests, so that nothing is made twice, whoever trained it and wherever it was pulled.
"""

import csv
import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file, digest_json, replacing
from speech_emotion.core.process import SCRATCH, alone
from speech_emotion.models.package import Package
from speech_emotion.registry import evidence, versions
from speech_emotion.registry.register import register
from speech_emotion.tracking.event_log import JOURNALS, Entry, Header, Journal, Training, is_gone, now, process_name
from speech_emotion.tracking.lineage import Locked, SourceState, dvc_tags, locked_outputs, source_state
from speech_emotion.tracking.mlflow_run import (
    PROCESS,
    RECORDED,
    TRAINING_DIGEST,
    Mirror,
    Place,
    connect,
    end_the_killed,
    experiment_id,
    first_line,
    flat,
    fluent,
    is_running,
    model_name,
    patience,
    place,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun


@dataclass(frozen=True)
class Synced:
    """What was so when a workspace and MLflow were last in sync.

    Attributes
    ----------
    content : str
        The digest of all that is published of the workspace.
    journals : dict of str to str
        Digests of what was noted while MLflow was away, or a training at work, by file.
    version : int or None
        The version that its package is; None: it has none.
    files : dict of str to int
        The version's files, with their sizes in bytes.
    """

    content: str
    journals: dict[str, str]
    version: int | None
    files: dict[str, int]


def recall(path: Path, where: Place, content: str, journals: dict[str, str]) -> Synced | None:
    """Return what was so, if it still is; None: MLflow has to be asked.

    Parameters
    ----------
    path : Path
        Where `remember` wrote.
    where : Place
    content : str
        The digest of what is to be published now.
    journals : dict of str to str
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        synced = Synced(**written["synced"])
        database = written["database"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    holds = (
        (synced.content, synced.journals) == (content, journals)
        and database == _state(where)
        and synced.files == sizes(map(Path, synced.files))
    )
    return synced if holds else None


def remember(path: Path, where: Place, synced: Synced) -> None:
    """Write down what is so, where MLflow's database is a file; elsewhere others change it unseen."""
    state = _state(where)
    if state is None:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as aside:
        aside.write_text(json.dumps({"synced": asdict(synced), "database": state}), encoding="utf-8")


def sizes(files: Iterable[Path]) -> dict[str, int]:
    """Return the sizes of those files that are there, by their paths."""
    return {str(file): file.stat().st_size for file in files if file.is_file()}


def _state(where: Place) -> list[list[str | int]] | None:
    """Return what changes whenever SQLite writes: sizes, and times in ns, of the database and its log."""
    if not where.uri.startswith("sqlite:///") or os.environ.get("MLFLOW_REGISTRY_URI"):
        return None
    database = Path(where.uri.removeprefix("sqlite:///"))
    found = [file for file in (database, database.with_name(f"{database.name}-wal")) if file.exists()]
    if database not in found:
        return None
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in found]


PUBLISHED: Final = "published"
"""The tag of a run that holds all that the workspace knows: the digest of what that was."""

SYNCED: Final = "synced.json"
"""What lies in the scratch folder of `publish` while there is nothing to tell."""

_FORMAT: Final = 1
"""Counts changes of what a run is told, so that older runs are told again."""


@dataclass(frozen=True)
class Published:
    """What `publish` did.

    Attributes
    ----------
    where : Place
    model : str
        The registered model's name.
    made : tuple of str
        Trainings that had no run and now have one, as protocol/fold.
    completed : tuple of str
        Trainings whose run was told something new.
    killed : int
        Runs whose process was killed, and which were RUNNING until now.
    version : int or None
        The version that is `challenger`; None: the workspace has no package.
    registered : bool
        Whether that version is new.
    moved : bool
        Whether `challenger` was on another version, or on none.
    """

    where: Place
    model: str
    made: tuple[str, ...]
    completed: tuple[str, ...]
    killed: int
    version: int | None
    registered: bool
    moved: bool

    @property
    def lines(self) -> tuple[str, ...]:
        """The same for people."""
        lines = []
        if self.made:
            lines.append(f"runs made: {', '.join(self.made)}")
        if self.completed:
            lines.append(f"runs completed: {', '.join(self.completed)}")
        if self.killed:
            lines.append(f"runs marked as killed: {self.killed}")
        if self.version is None:
            lines.append("no package yet, so none is registered")
        elif self.registered or self.moved:
            lines.append(
                f"{self.model} version {self.version}: {'registered, ' if self.registered else ''}now the challenger"
            )
        elif not lines:
            lines.append(f"nothing to do: MLflow has every run, and {self.model} version {self.version} is challenger")
        return (*lines, f"to see it: {self.where.hint}")


def publish(root: Path, *, corpus: str) -> Published:
    """Make MLflow agree with a workspace.

    Runs that were logged live are completed with test metrics, figures, data sets and lineage; trainings without a run
    (restored from a cache, pulled, trained while MLflow was away) get one; runs whose process was killed are marked;
    the package is registered if none of the versions is it, and `challenger` is set on its version.

    Parameters
    ----------
    root : Path
        The workspace.
    corpus : str
        Its name in params.yaml.

    Returns
    -------
    Published

    Raises
    ------
    UserError
        MLflow does not answer, or a file in the workspace is damaged. What was sent stays; the rest is sent next time.
    """
    where = place()
    workspace = _Workspace(root, corpus)
    with alone(str((root / SCRATCH / "publish").resolve())) as scratch, _telling(where):
        synced = recall(scratch / SYNCED, where, workspace.content, _digests(root / JOURNALS))
        if synced is not None:
            return Published(where, model_name(corpus), (), (), 0, synced.version, False, False)
        # whether it answers at all is soon known; what is sent then, a model among it, may take its time
        with patience(5, retries=1):
            client = connect(where)
            experiment = experiment_id(client, where, corpus)
        with patience(30, retries=2), fluent(where):
            sent = _send_journals(client, experiment, where, root / JOURNALS, corpus)
            killed = end_the_killed(client, experiment)
            outcomes = {
                training.name: _publish_training(client, experiment, training) for training in workspace.trainings
            }
            version, registered, moved = _publish_package(client, experiment, workspace)
            files = _files(client, workspace, version)
            if files is None or is_running(client, experiment):
                (scratch / SYNCED).unlink(missing_ok=True)
            else:
                # the content is what it was before it was told: what has changed meanwhile is told next time
                remember(scratch / SYNCED, where, Synced(workspace.content, _digests(root / JOURNALS), version, files))
    made = tuple(name for name, outcome in outcomes.items() if outcome == "made")
    completed = {name for name, outcome in outcomes.items() if outcome == "completed"} | (sent - set(made))
    return Published(where, model_name(corpus), made, tuple(sorted(completed)), killed, version, registered, moved)


@dataclass(frozen=True)
class _Workspace:
    """What of a workspace is published."""

    root: Path
    corpus: str

    @cached_property
    def locked(self) -> Mapping[str, Locked]:
        return locked_outputs(self.root)

    @cached_property
    def source(self) -> SourceState:
        return source_state(self.root)

    @cached_property
    def trainings(self) -> tuple["_Trained", ...]:
        records = sorted((self.root / "models" / self.corpus / "protocols").glob("*/*/training.json"))
        reports: dict[str, dict[str, str]] = {}
        for record in records:
            protocol = record.parent.parent.name
            if protocol not in reports:
                reports[protocol] = _digests(self.root / "reports" / self.corpus / "protocols" / protocol)
        return tuple(_Trained(self, path.parent, reports[path.parent.parent.name]) for path in records)

    @property
    def package(self) -> Path:
        return self.root / "models" / self.corpus / "package"

    @cached_property
    def content(self) -> str:
        """The digest of all that MLflow is told, as it is when this is first asked for."""
        return digest_json(
            {
                "trainings": {one.name: [one.training.digest, one.content] for one in self.trainings},
                "package": Package.load(self.package).digest if self.package.is_dir() else None,
            }
        )


@dataclass(frozen=True)
class _Trained:
    """A training that lies in the workspace, finished."""

    workspace: _Workspace
    folder: Path
    report_digests: Mapping[str, str] = field(repr=False)

    @property
    def protocol(self) -> str:
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return f"{self.protocol}/{self.folder.name}"

    @property
    def reports(self) -> Path:
        return self.workspace.root / "reports" / self.workspace.corpus / "protocols" / self.protocol

    @cached_property
    def training(self) -> Training:
        path = self.folder / "training.json"
        record = _read_json(path)
        try:
            return Training(
                corpus=self.workspace.corpus,
                protocol=self.protocol,
                fold=self.folder.name,
                digest=record["training_digest"],
                params=flat(record["settings"]),
                lineage=record["lineage"],
            )
        except KeyError as error:
            raise UserError(f"{path}: {error} is missing. `dvc repro --single-item train@{self.protocol}`.") from None

    @cached_property
    def tags(self) -> dict[str, str]:
        return dvc_tags(self.workspace.locked, corpus=self.workspace.corpus, protocol=self.protocol)

    @cached_property
    def content(self) -> str:
        """The digest of all that its run is to be told."""
        return digest_json(
            {"format": _FORMAT, "files": _digests(self.folder), "report": self.report_digests, "tags": self.tags}
        )

    @property
    def written(self) -> int:
        """When training.json was written, or fetched; ms since 1970."""
        return int((self.folder / "training.json").stat().st_mtime * 1000)

    def epochs(self) -> Iterator[Entry]:
        """Yield the rows of history.csv."""
        path = self.folder / "history.csv"
        try:
            with open(path, encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    epoch = int(row.pop("epoch"))
                    yield Entry(self.written, "epoch", epoch, {name: float(value) for name, value in row.items()})
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{path}: is missing or damaged. `dvc checkout` restores it.") from None

    def results(self) -> Entry:
        """Return its metrics on the part that it is judged on, and the mean over the protocol's folds."""
        path = self.reports / "metrics.json"
        if not path.exists():
            return Entry(now(), "epoch")
        report = _read_json(path)
        part, folds = str(report.get("part", "test")), report.get("folds", {})
        metrics = _numbers(folds.get(self.folder.name, {}), f"{part}/")
        if len(folds) > 1:
            metrics |= _numbers(report.get("mean", {}), f"{part}_mean/")
        return Entry(now(), "epoch", 0, metrics)

    def artifacts(self) -> list[tuple[Path, str]]:
        """Return the files of the protocol's report, but those in folders of other folds, each with its folder."""
        others = {folder.name for folder in self.folder.parent.iterdir()} - {self.folder.name}
        files = [path.relative_to(self.reports) for path in self.reports.rglob("*") if path.is_file()]
        return [
            (self.reports / path, (Path("evaluation") / path.parent).as_posix())
            for path in sorted(files)
            if path.parts[0] not in others
        ]


@contextmanager
def _telling(where: Place) -> Iterator[None]:
    """Turn what MLflow raises into one line for the user."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        import requests
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        if not isinstance(error, (MlflowException, requests.RequestException, SQLAlchemyError, OSError)):
            raise
        raise UserError(
            f"MLflow at {where.uri} cannot be told ({first_line(error)}). Models and reports are untouched; when it is "
            "back, `speech-emotion publish` (or `dvc repro`) tells it what is missing."
        ) from error


def _send_journals(client: "MlflowClient", experiment: str, where: Place, folder: Path, corpus: str) -> set[str]:
    """Send what trainings could not send live; return their names.

    The journal of a training that finished is removed: what it told is in MLflow. That of one that was killed stays,
    for the training may go on.
    """
    sent = set()
    for journal in Journal.all(folder):
        assert journal.header is not None
        going_on = journal.end is None and not is_gone(journal.process)
        if journal.header.training.corpus != corpus or going_on:
            continue
        if journal.sent_to != where.uri:
            mirror = Mirror.of_journal(client, experiment, journal)
            mirror.metrics(journal.entries)
            end = journal.end
            if end is None or end.status is None:
                mirror.end("KILLED", journal.entries[-1].time if journal.entries else journal.header.time)
            else:
                mirror.end(end.status, end.time, end.reason)
            journal.mark_sent(where.uri)
            sent.add(journal.header.training.name)
        if journal.end is not None and journal.end.status == "FINISHED":
            journal.path.unlink()
    return sent


def _publish_training(client: "MlflowClient", experiment: str, trained: _Trained) -> str:
    """Find or make a training's run and tell it what it does not know; return "made", "completed" or ""."""
    run = _run_of(client, experiment, trained.training.digest)
    if run is not None and run.data.tags.get(PUBLISHED) == trained.content:
        return ""
    if run is None:
        header = Header(trained.training, trained.workspace.source, trained.tags, trained.written)
        mirror = Mirror.make(client, experiment, header, {RECORDED: "from files", PROCESS: process_name()})
    else:
        mirror = Mirror(client, run)
        mirror.params(trained.training.params)
        mirror.tags(trained.tags)
    mirror.metrics(trained.epochs())
    # a second evaluation has its own figures, and MLflow shows the newest
    mirror.results(trained.results())
    _log_datasets(client, mirror.run_id, trained)
    mirror.training_files(trained.folder)
    for path, folder in trained.artifacts():
        mirror.file(path, folder)
    if mirror.status != "FINISHED":
        mirror.end("FINISHED", trained.written)
    # the last word: a run without it is told all again
    mirror.tags({PUBLISHED: trained.content})
    return "made" if run is None else "completed"


def _run_of(client: "MlflowClient", experiment: str, digest: str) -> "MlflowRun | None":
    """Return the newest finished run of a training, else one that was never told of its end."""
    runs = client.search_runs([experiment], f"tags.{TRAINING_DIGEST} = '{digest}'")
    finished = [run for run in runs if run.info.status == "FINISHED"]
    broken_off = [run for run in runs if run.data.tags.get(RECORDED) == "from files" and run not in finished]
    return next(iter(finished + broken_off), None)


def _log_datasets(client: "MlflowClient", run_id: str, trained: _Trained) -> None:
    """Log the parts of the split as inputs of the run; without the split's file there is nothing to log."""
    data = trained.workspace.root / "data" / trained.workspace.corpus
    split_path, manifest_path = data / "splits" / f"{trained.protocol}.csv", data / "manifest" / "manifest.csv"
    if not split_path.exists() or not manifest_path.exists():
        return
    import pandas as pd
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import Dataset, DatasetInput, InputTag

    split = pd.read_csv(split_path, dtype=str, keep_default_na=False)
    manifest = pd.read_csv(manifest_path, keep_default_na=False, dtype={"id": str})
    rows = split[split["fold"] == trained.folder.name].merge(manifest.drop(columns="part"), on="id")
    source = split_path.relative_to(trained.workspace.root).as_posix()
    inputs = []
    for part in ("train", "validation", "test"):
        chosen = rows[rows["part"] == part]
        if chosen.empty:
            continue
        digest = digest_json(chosen[["id", "emotion", "sha256"]].values.tolist())[:32]
        name = f"{trained.workspace.corpus}/{trained.name}/{part}"
        with warnings.catch_warnings():
            # about integers that might be missing one day
            warnings.simplefilter("ignore", UserWarning)
            described = from_pandas(chosen.drop(columns="fold"), source=source, name=name, digest=digest).to_dict()
        tag = InputTag("mlflow.data.context", part)
        inputs.append(DatasetInput(Dataset(**described), [tag]))
    client.log_inputs(run_id, datasets=inputs)


def _publish_package(client: "MlflowClient", experiment: str, workspace: _Workspace) -> tuple[int | None, bool, bool]:
    """Register the package if it is not; return its version, whether that is new, and whether `challenger` moved."""
    if not workspace.package.is_dir():
        return None, False, False
    package = Package.load(workspace.package)
    name = model_name(workspace.corpus)
    same = [one for one in versions.versions(client, name) if one.package_digest == package.digest]
    version = next((one for one in same if versions.is_there(client, one)), None)
    registered = version is None
    if version is None:
        run = _run_of(client, experiment, package.description.lineage.get("training", ""))
        tags = _version_tags(workspace, package, run)
        with tempfile.TemporaryDirectory() as folder:
            predictions = Path(folder) / evidence.FOLDER
            evidence.gather(workspace.root, workspace.corpus, package.evidence(), predictions)
            version = register(client, experiment, name, package, run=run, tags=tags, predictions=predictions)
    holder = versions.with_alias(client, name)
    moved = holder is None or holder.number != version.number
    if moved:
        client.set_registered_model_alias(name, versions.CHALLENGER, str(version.number))
    return version.number, registered, moved


def _files(client: "MlflowClient", workspace: _Workspace, version: int | None) -> dict[str, int] | None:
    """Return the version's files with their sizes; None: they are not on this machine."""
    if version is None:
        return {}
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    [found] = [one for one in versions.versions(client, model_name(workspace.corpus)) if one.number == version]
    uri = versions.package_uri(client, found)
    return sizes(sorted(Path(local_file_uri_to_path(uri)).rglob("*"))) if is_local_uri(uri) else None


def _version_tags(workspace: _Workspace, package: Package, run: "MlflowRun | None") -> dict[str, str]:
    """Return the way back to a package's state: of the training's run, for the weights are its own."""
    origin = workspace.source.tags if run is None else run.data.tags
    tags = {key: value for key, value in origin.items() if key.startswith("git.")}
    locked = workspace.locked.get(f"models/{workspace.corpus}/package")
    return tags if locked is None else tags | {"dvc.package": locked.md5}


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path}: is missing or damaged. `dvc checkout` restores it.") from None
    return content


def _numbers(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Return the numbers among nested values, by a path that MLflow takes as a metric's name."""
    found: dict[str, float] = {}
    for key, value in values.items():
        name = prefix + re.sub(r"[^\w.\- ]", "_", key)
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = float(value)
    return found
