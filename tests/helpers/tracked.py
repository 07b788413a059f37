"""Write a workspace as the pipeline leaves it, without training."""

import csv
import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType

from helpers.examples import manifest
from helpers.tiny_package import make_package
from helpers.workspaces import commit
from speech_emotion.core.io import digest_folder, write_json
from speech_emotion.data import splits
from speech_emotion.tracking import connection, mlflow_run

CORPUS = "tiny"
MODEL = "speech-emotion-tiny"
EPOCHS = 3
LINEAGE = {"features": "f" * 64, "params": "d" * 64, "spec": "e" * 64, "split": "a" * 64}
PARAMS = {"epochs": EPOCHS, "network": {"lstm": [8], "dropout": {"lstm": 0.2}}}
FEATURES = {"n_mfcc": 13}
LOCKED = {
    f"data/{CORPUS}/{name}": str(number) * 32 + ".dir"
    for number, name in enumerate(("raw", "manifest", "features", "splits"), start=1)
}


def digest_of(protocol: str, fold: str, seed: int = 0) -> str:
    return hashlib.sha256(f"{protocol}/{fold}/{seed}".encode()).hexdigest()


def lineage(protocol: str, fold: str, seed: int = 0) -> dict[str, str]:
    """Return the digests of a training's inputs; `training` differs from `digest_of`, which covers calibration too."""
    return LINEAGE | {"training": digest_of(protocol, fold, seed)[::-1]}


def make_workspace(folder: Path) -> Path:
    """Write what comes before training: settings, data, dvc.lock and a first commit."""
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "code.py").write_text("answer = 42\n")
    (folder / "params.yaml").write_text(f"corpus:\n  name: {CORPUS}\n")
    (folder / ".gitignore").write_text("/data/\n/models/\n/mlruns/\n/mlflow.db*\n/.scratch/\n")
    _write_data(folder / "data" / CORPUS)
    write_lock(folder)
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def write_lock(folder: Path, models: str = "") -> None:
    """Write dvc.lock; `models` is the hash of the trained models, if any."""
    stages: dict[str, Any] = {"earlier": {"outs": [{"path": path, "md5": md5} for path, md5 in LOCKED.items()]}}
    if models:
        stages["train"] = {"outs": [{"path": f"models/{CORPUS}/protocols", "md5": models}]}
    (folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))


def history(epoch: int) -> dict[str, float]:
    return {
        "loss": 1.0 / epoch,
        "accuracy": 1.0 - 0.5 / epoch,
        "val_loss": 1.1 / epoch,
        "val_accuracy": 1.0 - 0.6 / epoch,
        "val_uar": 1.0 - 0.7 / epoch,
        "learning_rate": 0.1 / epoch,
    }


def started(protocol: str, fold: str = "all", seed: int = 0) -> mlflow_run.LiveRun:
    """Start a training's run as the train stage does, in the working folder."""
    params, digest = connection.flat({"train": PARAMS, "featurize": FEATURES}), digest_of(protocol, fold, seed)
    made = mlflow_run.TrainingInfo(CORPUS, protocol, fold, digest, params, lineage(protocol, fold, seed))
    return mlflow_run.LiveRun(made)


def train(folder: Path, protocol: str, fold: str = "all", seed: int = 0) -> None:
    """Write what a training writes, and log it live."""
    with started(protocol, fold, seed) as run:
        for epoch in range(1, EPOCHS + 1):
            run.epoch(epoch, history(epoch))
        run.finish(write_training(folder, protocol, fold, seed))


def write_training(folder: Path, protocol: str, fold: str = "all", seed: int = 0) -> Path:
    """Write the files of a training."""
    target = folder / "models" / CORPUS / "protocols" / protocol / fold
    target.mkdir(parents=True, exist_ok=True)
    with open(target / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", *history(1)])
        writer.writeheader()
        writer.writerows({"epoch": epoch, **history(epoch)} for epoch in range(1, EPOCHS + 1))
    record = {
        "settings": {"train": PARAMS, "featurize": FEATURES},
        "lineage": lineage(protocol, fold, seed),
        "model_digest": digest_of(protocol, fold, seed),
    }
    write_json(target / "training.json", record)
    for name in ("architecture.json", "model.weights.h5"):
        (target / name).write_text("{}")
    return target


def evaluate(folder: Path, protocol: str, folds: Mapping[str, float], part: str = "test") -> None:
    """Write a protocol's report, with a UAR a fold."""
    report = folder / "reports" / CORPUS / "protocols" / protocol
    report.mkdir(parents=True, exist_ok=True)
    scores = {fold: {"uar": uar, "accuracy": uar, "recall": {"angry": uar}} for fold, uar in folds.items()}
    mean = sum(folds.values()) / len(folds)
    summary = {"protocol": protocol, "part": part, "folds": scores, "mean": {"uar": mean, "accuracy": mean}}
    write_json(report / "metrics.json", summary)
    (report / "predictions.csv").write_text("fold,id,emotion,prediction\n")
    (report / "confusion.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def package(folder: Path, *, seed: int = 0) -> str:
    """Write a package that depends on the seed, and return its digest."""
    target = folder / "models" / CORPUS / "package"
    make_package(target, seed=seed)
    description = json.loads((target / "package.json").read_text())
    description["lineage"]["training"] = lineage("full", "all", seed)["training"]
    write_json(target / "package.json", description)
    write_json(target / "evaluation" / "random.json", {"mean": {"uar": 0.75, "accuracy": 0.8}})
    return digest_folder(target)


def fill(folder: Path) -> None:
    """Write the files of training, evaluation and packaging, unknown to MLflow."""
    for protocol, fold in (("random", "all"), ("speaker", "A"), ("speaker", "B"), ("full", "all")):
        write_training(folder, protocol, fold)
    evaluate(folder, "random", {"all": 0.75})
    evaluate(folder, "speaker", {"A": 0.5, "B": 0.25})
    evaluate(folder, "full", {"all": 0.875}, part="validation")
    package(folder)


def client() -> MlflowClient:
    return connection.connect(connection.locate())


def runs() -> list[MlflowRun]:
    """Return the corpus's runs, the newest first."""
    asked = client()
    experiment = asked.get_experiment_by_name(MODEL)
    return [] if experiment is None else list(asked.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL))


def run_named(name: str) -> MlflowRun:
    """Return the one run of that name."""
    [found] = [run for run in runs() if run.info.run_name == name]
    return found


def steps(run: MlflowRun, metric: str) -> list[int]:
    return [value.step for value in client().get_metric_history(run.info.run_id, metric)]


def artifacts(run: MlflowRun, folder: str) -> set[str]:
    return {info.path for info in client().list_artifacts(run.info.run_id, folder)}


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _write_data(data: Path) -> None:
    table = manifest(words=3).drop(columns="part", errors="ignore")
    (data / "splits").mkdir(parents=True)
    for protocol, folds in {"random": ["all"], "speaker": ["A", "B"], "full": ["all"]}.items():
        parts = [("train", "validation", "test")[number % 3] for number in range(len(table))]
        split = pd.concat([table[["id"]].assign(fold=fold, part=parts) for fold in folds])
        split.merge(table, on="id")[splits.COLUMNS].to_csv(data / "splits" / f"{protocol}.csv", index=False)
