"""Register a package as a version of an MLflow model that accepts audio and carries the code to answer."""

import base64
import io
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from speech_emotion.core.io import write_json
from speech_emotion.models.package import Package
from speech_emotion.registry.compare_versions import PREDICTIONS, SPLITS
from speech_emotion.registry.describe import describe_package
from speech_emotion.registry.versions import PACKAGE_ARTIFACT, PACKAGE_DIGEST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.models import ModelSignature

_PREDICTION: Final = (
    "__init__.py",
    "audio",
    "config",
    "core/__init__.py",
    "core/errors.py",
    "core/io.py",
    "features/__init__.py",
    "features/frames.py",
    "features/mfcc.py",
    "features/prosody.py",
    "inference/__init__.py",
    "inference/recognizer.py",
    "inference/response.py",
    "inference/windows.py",
    "models/__init__.py",
    "models/package.py",
)
"""The code that is registered with a model, so that it answers where this library is not installed."""


def register(
    client: "MlflowClient",
    experiment: str,
    name: str,
    package: Package,
    *,
    run: "Run | None",
    tags: Mapping[str, str],
    predictions: Path,
) -> int:
    """Log a package as a model from code, register it, and return the number of the version.

    Parameters
    ----------
    client : MlflowClient
    experiment : str
        The id of the experiment in which the model is logged.
    name : str
        The registered model, which is created if needed.
    package : Package
    run : mlflow.entities.Run or None
        The training of the weights, if MLflow has it.
    tags : mapping of str to str
        Tags of the version, in addition to those of the package.
    predictions : Path
        The folder that `copy_predictions` wrote; with it, two versions can be compared anywhere.
    """
    tags = _tags(package) | dict(tags)
    model_id = _log_model(client, experiment, package, run, tags, predictions)
    if not client.search_registered_models(f"name = '{name}'"):
        description = f"Speech emotion recognition, trained on the corpus {package.description.corpus}."
        client.create_registered_model(name, description=description)
    # one request sets the digest too: after a kill, no version is left without it
    version = client.create_model_version(
        name,
        source=f"models:/{model_id}",
        run_id=None if run is None else run.info.run_id,
        tags=tags,
        description=describe_package(package, tags.get("git.commit", "")),
        model_id=model_id,
    )
    return int(version.version)


def copy_predictions(root: Path, corpus: str, evidence: Mapping[str, Mapping[str, Any]], folder: Path) -> Path:
    """Copy the predictions behind a package's metrics to a new folder inside `folder`, and return that.

    `evidence` holds the metrics by protocol, see `Package.evidence`. A report with other metrics belongs to another
    model, and is left out.
    """
    target = folder / PREDICTIONS
    target.mkdir()
    splits = {}
    for protocol, metrics in evidence.items():
        report = root / "reports" / corpus / "protocols" / protocol
        split = _split_digest(root / "models" / corpus / "protocols" / protocol)
        if split is None or _json(report / "metrics.json") != metrics or not (report / "predictions.csv").is_file():
            continue
        shutil.copyfile(report / "predictions.csv", target / f"{protocol}.csv")
        splits[protocol] = split
    write_json(target / SPLITS, splits)
    return target


def _split_digest(folds: Path) -> str | None:
    """Return the digest of the split on which a protocol's folds were trained; None if they disagree."""
    records = [_json(path) or {} for path in folds.glob("*/training.json")]
    found = {record.get("lineage", {}).get("split") for record in records}
    return str(next(iter(found))) if len(found) == 1 and None not in found else None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


def _tags(package: Package) -> dict[str, str]:
    """Return the tags that a package gives its version: what it is, and UAR by protocol, such as `speaker.uar`."""
    uars = {
        f"{protocol}.uar": f"{report['mean']['uar']:.4f}"
        for protocol, report in package.evidence().items()
        if "uar" in report.get("mean", {})
    }
    description = package.description
    names = {"corpus": description.corpus, "labels": ", ".join(description.labels)}
    return {PACKAGE_DIGEST: package.digest, **names, **uars}


def _log_model(
    client: "MlflowClient",
    experiment: str,
    package: Package,
    run: "Run | None",
    tags: Mapping[str, str],
    predictions: Path,
) -> str:
    """Log a package as an MLflow model from code, and return the id of the model."""
    import mlflow
    import pandas as pd
    from mlflow.entities import LoggedModelOutput

    run_id = None if run is None else run.info.run_id
    model_id = str(
        client.create_logged_model(experiment, name="package", source_run_id=run_id, tags=dict(tags)).model_id
    )
    with tempfile.TemporaryDirectory() as temporary:
        mlflow.pyfunc.log_model(
            model_id=model_id,
            python_model=str(Path(__file__).parent.parent / "serving" / "pyfunc.py"),
            artifacts={PACKAGE_ARTIFACT: str(package.folder), PREDICTIONS: str(predictions)},
            code_paths=[str(_copy_code(Path(temporary)))],
            pip_requirements=[f"mlflow=={mlflow.__version__}", *package.requirements],
            signature=_signature(package),
            input_example=pd.DataFrame({"audio": [_example(package)]}),
        )
    if run_id is not None:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def _copy_code(folder: Path) -> Path:
    """Copy the modules that prediction imports, and return the copy."""
    copy = folder / "speech_emotion"
    copy.mkdir()
    for name in _PREDICTION:
        source = Path(__file__).parent.parent / name
        (copy / name).parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, copy / name)
    return copy


def _signature(package: Package) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array, Object, Property

    labels = [Property(label, DataType.double) for label in package.labels]
    window = [
        Property("start", DataType.double),
        Property("end", DataType.double),
        Property("label", DataType.string),
        Property("confidence", DataType.double),
        Property("sure", DataType.boolean),
        Property("probabilities", Object(labels)),
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "label"),
        ColSpec(DataType.double, "confidence"),
        ColSpec(DataType.boolean, "sure"),
        ColSpec(Object(labels), "probabilities"),
        ColSpec(Array(Object(window)), "windows"),
        ColSpec(DataType.string, "model"),
        ColSpec(DataType.string, "model_version"),
        ColSpec(DataType.string, "package_digest"),
    ]
    return ModelSignature(inputs=Schema([ColSpec(DataType.string, "audio")]), outputs=Schema(outputs))


def _example(package: Package) -> str:
    """Return a vowel-like sound (harmonics of 140 Hz under two formants) as a WAV file in base64."""
    import soundfile

    limits, rate = package.description.limits, 16_000
    seconds = min(limits.max_seconds, max(0.6, limits.min_seconds + 0.1))
    time = np.arange(int(seconds * rate)) / rate
    harmonics = 140.0 * np.arange(1, 25)
    levels = np.exp(-(((harmonics - 750) / 250) ** 2)) + 0.6 * np.exp(-(((harmonics - 1200) / 250) ** 2)) + 0.02
    sound = (levels[:, None] * np.sin(2 * np.pi * harmonics[:, None] * time)).sum(axis=0) * np.hanning(len(time))
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.5 * sound / np.abs(sound).max(), rate, format="WAV", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode()
