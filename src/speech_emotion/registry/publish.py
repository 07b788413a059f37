"""Sync results to MLflow: a run for every training, a registered version of the package, and the alias `challenger`.

Everything is identified by digests of its content, so nothing is sent twice, whoever trained it or pulled it.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder, digest_json, write_json
from speech_emotion.core.process import SCRATCH, alone
from speech_emotion.models.package import Package
from speech_emotion.registry.compare_versions import SPLITS
from speech_emotion.registry.register import register
from speech_emotion.registry.versions import CHALLENGER, CODE_DIGEST, PREDICTIONS, has_files, versions
from speech_emotion.tracking.connection import experiment_id, flat, locate, model_name, session
from speech_emotion.tracking.lineage import locked_outputs, source_tags
from speech_emotion.tracking.mlflow_run import (
    LogEntry,
    TrainingInfo,
    create_run,
    find_run,
    log_metrics,
    log_params,
    log_training_files,
    now,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FORMAT: Final = 4
"""Increase it when runs get other content, so that existing runs are completed."""


@dataclass(frozen=True)
class PublishResult:
    """What `publish` did.

    `created` and `completed` name trainings (protocol/fold). `version` is that of the package (None: there is none),
    which may be newly `registered`, or `moved` to by the alias.
    """

    created: tuple[str, ...]
    completed: tuple[str, ...]
    version: int | None
    registered: bool
    moved: bool

    @property
    def lines(self) -> tuple[str, ...]:
        """The result as text."""
        version = [f"version {self.version}"]
        found = {
            "runs created": self.created,
            "runs completed": self.completed,
            "registered": version if self.registered else (),
            "now the challenger": version if self.moved else (),
            "registered nothing": () if self.version else ["there is no package yet; `dvc repro` makes it"],
        }
        lines = tuple(f"{what}: {', '.join(names)}" for what, names in found.items() if names)
        return lines or (f"up to date: MLflow has every run, and {version[0]} is the challenger",)


def publish(root: Path, *, corpus: str) -> PublishResult:
    """Sync the workspace `root` to MLflow; if MLflow does not respond, the next call sends the rest.

    Every training gets a run, also one that was pulled, with metrics, figures and lineage. The package is registered
    unless a version has it, and its version becomes `challenger`, except in a temporary experiment.
    """
    name = model_name(corpus)
    trainings = _finished_trainings(root, corpus)
    advice = "Models and reports are not affected. `speech-emotion publish` (or `dvc repro`) sends the rest later."
    with alone(str((root / SCRATCH / "publish").resolve())), session(advice) as client:
        experiment = experiment_id(client, locate(), corpus)
        done = {
            f"{one.protocol}/{one.fold}": _publish_run(client, experiment, one, folder, _reports(root, one))
            for folder, one in trainings.items()
        }
        version, registered = _publish_package(client, experiment, root, corpus, trainings.values())
        # `dvc exp run --temp` works in a copy, and DVC_ROOT names the original
        temporary = Path(os.environ.get("DVC_ROOT") or root).resolve() != root.resolve()
        challenger = None if version is None else client.get_registered_model(name).aliases.get(CHALLENGER)
        moved = version is not None and not temporary and str(challenger) != str(version)
        if moved:
            client.set_registered_model_alias(name, CHALLENGER, str(version))
    created, completed = (tuple(one for one in done if done[one] == what) for what in ("created", "completed"))
    return PublishResult(created, completed, version, registered, moved)


def _finished_trainings(root: Path, corpus: str) -> dict[Path, TrainingInfo]:
    """Return the trainings in the workspace by their folders."""
    trainings = {}
    for path in sorted((root / "models" / corpus / "protocols").glob("*/*/training.json")):
        record = _read_json(path)
        try:
            digest, params, lineage = record["model_digest"], flat(record["settings"]), record["lineage"]
        except KeyError as error:
            raise UserError(f"{path}: {error} is missing. Run `dvc repro`.") from None
        protocol, fold = path.parts[-3:-1]
        trainings[path.parent] = TrainingInfo(corpus, protocol, fold, digest, params, lineage)
    return trainings


def _reports(root: Path, training: TrainingInfo) -> Path:
    return root / "reports" / training.corpus / "protocols" / training.protocol


def _publish_run(client: "MlflowClient", experiment: str, training: TrainingInfo, folder: Path, reports: Path) -> str:
    """Find or create the run of a training and add what is missing; return "created", "completed" or ""."""
    content = digest_json([_FORMAT, *(digest_folder(path) for path in (folder, reports) if path.is_dir())])
    found = find_run(client, experiment, training.digest)
    if found is not None and found.data.tags.get("published") == content:
        return ""
    # when the training ended, or was pulled
    ended = int((folder / "training.json").stat().st_mtime * 1000)
    run = found or create_run(client, experiment, training, started=ended, recorded="from files")
    run_id = run.info.run_id
    log_params(client, run_id, training.params)
    # what the training could not send
    logged = {metric.step for metric in client.get_metric_history(run_id, "loss")}
    epochs = [LogEntry(ended, epoch, metrics) for epoch, metrics in _epochs(folder) if epoch not in logged]
    log_metrics(client, run_id, [*epochs, LogEntry(now(), 0, _results(reports, training.fold))])
    log_training_files(client, run_id, folder)
    if reports.is_dir():
        client.log_artifacts(run_id, str(reports), "evaluation")
    if run.info.status != "FINISHED":
        client.set_terminated(run_id, status="FINISHED", end_time=max(ended, run.info.start_time))
    # comes last: a run without this tag is completed by the next call
    client.set_tag(run_id, "published", content)
    return "created" if found is None else "completed"


def _epochs(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the epochs of history.csv with their metrics."""
    from speech_emotion.core.tables import read_table

    path = folder / "history.csv"
    try:
        for row in read_table(path).to_dict("records"):
            yield int(row.pop("epoch")), {str(name): float(value) for name, value in row.items()}
    except (UserError, ValueError, KeyError):
        raise UserError(f"{path}: is missing or damaged. `dvc checkout` restores it.") from None


def _results(reports: Path, fold: str) -> dict[str, float]:
    """Return the metrics of a fold, and the mean over the protocol's folds, by names that MLflow accepts."""
    path = reports / "metrics.json"
    report = _read_json(path) if path.exists() else {}
    part, folds = str(report.get("part", "test")), report.get("folds", {})
    metrics = {part: folds.get(fold, {})} | ({f"{part}_mean": report["mean"]} if len(folds) > 1 else {})
    return {
        re.sub(r"[^\w\-/ ]", "_", key.replace(".", "/")): float(value)
        for key, value in flat(metrics).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _publish_package(
    client: "MlflowClient", experiment: str, root: Path, corpus: str, trainings: Iterable[TrainingInfo]
) -> tuple[int | None, bool]:
    """Register the package unless a version has it; return its version, and whether that is new."""
    folder, name = root / "models" / corpus / "package", model_name(corpus)
    if not folder.is_dir():
        return None, False
    package = Package.load(folder)
    for version in versions(client, name):
        if version.package_digest == package.digest and CODE_DIGEST in version.tags and has_files(client, version):
            return version.number, False
    weights = package.description.lineage.get("training", "")
    digests = [one.digest for one in trainings if one.lineage.get("training") == weights]
    run = find_run(client, experiment, digests[0]) if digests else None
    # the weights were trained from the source of the run, which may be older than the workspace's
    origin: Mapping[str, str] = source_tags(root) if run is None else run.data.tags
    tags = {key: origin[key] for key in ("git.commit", "git.source_dirty", "git.params_dirty") if key in origin}
    tags["dvc.package"] = locked_outputs(root).get(f"models/{corpus}/package", "absent")
    with tempfile.TemporaryDirectory() as temporary:
        predictions = _copy_predictions(root, trainings, package.evaluation(), Path(temporary) / PREDICTIONS)
        run_id = None if run is None else run.info.run_id
        number = register(client, experiment, name, package, run_id=run_id, tags=tags, predictions=predictions)
        return number, True


def _copy_predictions(root: Path, trainings: Iterable[TrainingInfo], reports: Mapping[str, Any], target: Path) -> Path:
    """Copy the predictions behind a package's metrics to a new folder, and return it."""
    target.mkdir()
    splits = {}
    for training in trainings:
        protocol, report, split = training.protocol, _reports(root, training), training.lineage.get("split")
        complete = split is not None and all((report / name).is_file() for name in ("metrics.json", "predictions.csv"))
        # a report with other metrics belongs to another model
        if complete and _read_json(report / "metrics.json") == reports.get(protocol):
            shutil.copyfile(report / "predictions.csv", target / f"{protocol}.csv")
            splits[protocol] = split
    write_json(target / SPLITS, splits)
    return target


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path}: is missing or damaged. `dvc checkout` restores it.") from None
    return content
