"""Release a package with real metrics of a chosen skill: in git, in dvc.lock and in the registry."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from helpers import tracked
from helpers.examples import manifest
from helpers.tiny_package import LABELS, make_package
from helpers.workspaces import ROOT, commit
from speech_emotion.config.evaluation import BootstrapSettings, EvaluateSettings
from speech_emotion.config.registry import PromoteSettings, ProtocolGates
from speech_emotion.core.io import write_json
from speech_emotion.evaluation.protocol_report import summarize
from speech_emotion.models.package import Package
from speech_emotion.registry.gates import folder_md5
from speech_emotion.registry.promote import PromotionResult, promote
from speech_emotion.registry.publish import publish

PROTOCOLS = {"random": ("all",), "speaker": ("A", "B")}
EVALUATE = EvaluateSettings(calibration_bins=10, bootstrap=BootstrapSettings(resamples=200, seed=0))
WORDS = 20


def gates(**changes: object) -> PromoteSettings:
    """Return gates that a release with skill 0.9 passes."""
    values: dict = {
        "mode": "enforce",
        "corpus": tracked.CORPUS,
        "protocols": {"random": ProtocolGates(uar=0.6, ece=None, recall=None, drop=None)},
        "against_champion": ("random", "speaker"),
        "latency_ms": None,
        "package_mb": 1.0,
        "card": False,
        "head": False,
    }
    return PromoteSettings(**(values | changes))


def ask(version: int | None = None, *, settings: PromoteSettings | None = None, **options: object) -> PromotionResult:
    """Promote a version in the working folder."""
    return promote(
        Path(), corpus=tracked.CORPUS, settings=settings or gates(), evaluate=EVALUATE, version=version, **options
    )  # type: ignore[arg-type]


def release(
    folder: Path,
    *,
    seed: int,
    skill: float,
    split: str = "a" * 64,
    card: str = "",
    drops: Mapping[str, float] | None = None,
) -> int:
    """Train, evaluate, package, commit and publish; return the version's number.

    `card` is the text of the model card, and `drops` the drop of UAR by robustness condition; both are optional.
    """
    reports = {}
    for protocol, folds in PROTOCOLS.items():
        predictions = {fold: _predictions(fold, seed, skill) for fold in folds}
        reports[protocol] = summarize(predictions, LABELS, EVALUATE) | {"protocol": protocol, "part": "test"}
        report = folder / "reports" / tracked.CORPUS / "protocols" / protocol
        report.mkdir(parents=True, exist_ok=True)
        write_json(report / "metrics.json", reports[protocol])
        pd.concat(predictions.values()).to_csv(report / "predictions.csv", index=False)
        for fold in folds:
            record = tracked.write_training(folder, protocol, fold, seed) / "training.json"
            content = json.loads(record.read_text())
            write_json(record, content | {"lineage": content["lineage"] | {"split": split}})
    evaluation: dict = dict(reports)
    if drops is not None:
        evaluation["robustness"] = {"random": {name: {"uar": 0.9 - drop, "drop": drop} for name, drop in drops.items()}}
    package = _package(folder, evaluation, seed)
    if card:
        (package / "MODEL_CARD.md").write_text(card)
    _commit(folder, package)
    number = publish(folder, corpus=tracked.CORPUS).version
    assert number is not None
    return number


def promote_in_step(folder: str, uri: str, barrier: Any, orders: Any) -> None:
    """Promote each version in `orders`, in step with the other processes at the barrier, until None comes."""
    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    while (version := orders.get()) is not None:
        try:
            barrier.wait(timeout=60)
        except BrokenBarrierError:
            return
        ask(version, mode="off", reason=f"by {os.getpid()}")
        barrier.wait(timeout=60)


def write_params(folder: Path, settings: PromoteSettings) -> None:
    """Write the repository's params.yaml with the tests' corpus and gates."""
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    values["corpus"] |= {"name": tracked.CORPUS, "kind": "folder"}
    values["evaluate"] = EVALUATE.model_dump(mode="json")
    values["promote"] = settings.model_dump(mode="json")
    with open(folder / "params.yaml", "w") as file:
        YAML().dump(values, file)


def _predictions(fold: str, seed: int, skill: float) -> pd.DataFrame:
    rows = manifest(words=WORDS)[["id", "speaker", "emotion", "text"]].assign(fold=fold).reset_index(drop=True)
    draw = np.random.default_rng([seed, ord(fold[0])])
    truth = rows["emotion"].map({label: number for number, label in enumerate(LABELS)}).to_numpy()
    wrong = draw.random(len(rows)) > skill
    predicted = np.where(wrong, (truth + 1) % len(LABELS), truth)
    probabilities = np.full((len(rows), len(LABELS)), 0.1)
    probabilities[np.arange(len(rows)), predicted] = 0.8
    rows["prediction"], rows["confidence"] = np.array(LABELS)[predicted], 0.8
    return rows.join(pd.DataFrame(probabilities, columns=[f"p_{label}" for label in LABELS]))


def _package(folder: Path, evaluation: dict, seed: int) -> Path:
    target = folder / "models" / tracked.CORPUS / "package"
    shutil.rmtree(target, ignore_errors=True)
    make_package(target, seed=seed)
    for name, content in evaluation.items():
        write_json(target / "evaluation" / f"{name}.json", content)
    return Package.load(target).folder


def _commit(folder: Path, package: Path) -> None:
    """Write the dvc.lock of this package, and commit."""
    name = f"models/{tracked.CORPUS}/package"
    params = {"params.yaml": {"corpus": YAML(typ="safe").load((folder / "params.yaml").read_text())["corpus"]}}
    stages = {
        "package": {
            "deps": [{"path": "models/x", "md5": "6" * 32}],
            "params": params,
            "outs": [{"path": name, "md5": folder_md5(package)}],
        },
        "train": {"outs": [{"path": "models/x", "md5": "6" * 32}]},
    }
    (folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
    commit(folder)
