"""Takes a package; gives a registered version of it, a model of MLflow that takes audio and answers by itself."""

import base64
import io
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from speech_emotion.evaluation import model_card
from speech_emotion.models.package import Package
from speech_emotion.registry import evidence
from speech_emotion.registry.versions import PACKAGE_ARTIFACT, PACKAGE_DIGEST, Version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun
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
"""What of this library lies beside a registered model, so that it answers where the library is not installed."""

_HEADLINE: Final = ("uar", "accuracy")
"""Of a protocol's metrics, those that are shown with a version."""


def register(
    client: "MlflowClient",
    experiment: str,
    name: str,
    package: Package,
    *,
    run: "MlflowRun | None",
    tags: Mapping[str, str],
    predictions: Path,
) -> Version:
    """Log a package as a model from code and register it.

    Parameters
    ----------
    client : MlflowClient
    experiment : str
        The id of the experiment that the model is logged in.
    name : str
        The registered model's, which is made where there is none.
    package : Package
    run : mlflow.entities.Run or None
        The training that the weights are from, if MLflow knows it.
    tags : mapping of str to str
        Of the version, beside those that the package itself gives.
    predictions : Path
        The folder that `evidence.gather` made; it goes with the model, so that two versions can be compared anywhere.
    """
    tags = _tags(package) | dict(tags)
    model_id = _log_model(client, experiment, package, run, tags, predictions)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(
            name,
            description=f"Hears emotions in speech; learned from the corpus {package.description.corpus}.",
        )
    # the digest comes with the version in one request: what is killed here leaves none that nobody knows
    made = client.create_model_version(
        name,
        source=f"models:/{model_id}",
        run_id=None if run is None else run.info.run_id,
        tags=tags,
        description=_describe(package),
        model_id=model_id,
    )
    return Version(name, int(made.version), package.digest, made.run_id or None, tuple(made.aliases), tags)


def _tags(package: Package) -> dict[str, str]:
    description = package.description
    return {
        PACKAGE_DIGEST: package.digest,
        "corpus": description.corpus,
        "protocol": description.protocol,
        "labels": ", ".join(description.labels),
        "software": description.software,
        **{f"digest.{key}": value for key, value in description.lineage.items()},
        **_evidence(package),
    }


def _evidence(package: Package) -> dict[str, str]:
    """Return the headline metrics of each protocol, as tags such as `speaker.uar`."""
    return {
        f"{protocol}.{metric}": f"{report['mean'][metric]:.4f}"
        for protocol, report in package.evidence().items()
        for metric in _HEADLINE
        if metric in report.get("mean", {})
    }


def _describe(package: Package) -> str:
    """Return the package's name and its model card, as much of it as MLflow keeps; without one, figures."""
    name = f"Package `{package.digest}`\n\n"
    path = package.folder / model_card.CARD
    if path.is_file():
        return name + model_card.abridged(path.read_text(encoding="utf-8"), model_card.DESCRIPTION_LIMIT - len(name))
    means = {protocol: report["mean"] for protocol, report in package.evidence().items() if "mean" in report}
    rows = [
        f"| {protocol} | " + " | ".join(f"{mean[metric]:.4f}" if metric in mean else "-" for metric in _HEADLINE) + " |"
        for protocol, mean in means.items()
    ]
    table = ["| protocol | UAR | accuracy |", "|---|---|---|", *rows] if rows else ["none"]
    return f"{name}Evidence, the mean over each protocol's folds:\n\n" + "\n".join(table)


def _log_model(
    client: "MlflowClient",
    experiment: str,
    package: Package,
    run: "MlflowRun | None",
    tags: Mapping[str, str],
    predictions: Path,
) -> str:
    """Log the package as a model of MLflow, from code, and return the model's id."""
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
            artifacts={PACKAGE_ARTIFACT: str(package.folder), evidence.FOLDER: str(predictions)},
            code_paths=[str(_copy_code(Path(temporary)))],
            pip_requirements=[f"mlflow=={mlflow.__version__}", *package.requirements],
            signature=_signature(package),
            input_example=pd.DataFrame({"audio": [_example(package)]}),
        )
    if run_id is not None:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def _copy_code(folder: Path) -> Path:
    """Copy what of this library a prediction imports; return the copy."""
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
    """Return a sound like an "ah" as the base64 text of a wav file: harmonics of 140 Hz under two formants."""
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
