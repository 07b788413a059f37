"""Register a package as a version of an MLflow model that accepts audio and carries the code to answer."""

import base64
import io
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from speech_emotion.core.io import digest_folder
from speech_emotion.evaluation.bootstrap import Interval
from speech_emotion.models.package import Package
from speech_emotion.registry.compare_versions import PREDICTIONS
from speech_emotion.registry.versions import CODE_DIGEST, PACKAGE_ARTIFACT, PACKAGE_DIGEST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.models import ModelSignature

_LIBRARY: Final = Path(__file__).parent.parent
"""The package `speech_emotion`, which is registered with each version."""

_METRICS: Final = {"uar": "UAR", "accuracy": "accuracy", "ece": "ECE"}
"""The metrics in the description of a version."""


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

    `run` is the training of the weights, if MLflow has it. `predictions` is a folder for
    `compare_versions.read_predictions`: with it, two versions can be compared anywhere.
    """
    with tempfile.TemporaryDirectory() as folder:
        code = shutil.copytree(
            _LIBRARY, Path(folder) / _LIBRARY.name, ignore=shutil.ignore_patterns("__pycache__", "pretrained")
        )
        tags = _tags(package) | {CODE_DIGEST: digest_folder(Path(folder))} | dict(tags)
        model_id = _log_model(client, experiment, package, run, tags, predictions, code)
    if not client.search_registered_models(f"name = '{name}'"):
        description = f"Speech emotion recognition, trained on the corpus {package.description.corpus}."
        client.create_registered_model(name, description=description)
    # one request sets the digest too: after a kill, no version is left without it
    version = client.create_model_version(
        name,
        source=f"models:/{model_id}",
        run_id=None if run is None else run.info.run_id,
        tags=tags,
        description=_description(package, tags.get("git.commit", "")),
        model_id=model_id,
    )
    return int(version.version)


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


def _description(package: Package, commit: str) -> str:
    """Return the description of a new version: what it is, how good it is, and how to load it."""
    description = package.description
    rows = [
        f"| {protocol} | {' | '.join(_figure(report['mean'], metric) for metric in _METRICS)} |"
        for protocol, report in package.evidence().items()
        if "mean" in report
    ]
    head = [f"| protocol | {' | '.join(_METRICS.values())} |", "|---|---|---|---|"]
    lines = [
        f"Recognizes {', '.join(description.labels)} in speech. Trained on the corpus {description.corpus} "
        f"(protocol {description.protocol}), commit {commit[:12] or 'unknown'}, software {description.software}.",
        "",
        *([*head, *rows] if rows else ["The package carries no metrics."]),
        "",
        "Means over the folds of each protocol, with 95 % intervals, of models that were trained in the same way. "
        "For new speakers, only the speaker protocol counts.",
        "",
        f"Package `{package.digest}`. Its model card is the artifact `artifacts/package/MODEL_CARD.md`.",
    ]
    return "\n".join(lines)


def _figure(mean: Mapping[str, Any], metric: str) -> str:
    if metric not in mean:
        return "-"
    bounds = mean.get("interval", {}).get(metric)
    return f"{mean[metric]:.3f}" + ("" if bounds is None else f" ({Interval.from_list(bounds).text()})")


def _log_model(
    client: "MlflowClient",
    experiment: str,
    package: Package,
    run: "Run | None",
    tags: Mapping[str, str],
    predictions: Path,
    code: Path,
) -> str:
    """Log a package as an MLflow model from code, and return the id of the model."""
    import mlflow
    import pandas as pd
    from mlflow.entities import LoggedModelOutput

    run_id = None if run is None else run.info.run_id
    model_id = str(
        client.create_logged_model(experiment, name="package", source_run_id=run_id, tags=dict(tags)).model_id
    )
    mlflow.pyfunc.log_model(
        model_id=model_id,
        python_model=str(Path(__file__).with_name("pyfunc.py")),
        artifacts={PACKAGE_ARTIFACT: str(package.folder), PREDICTIONS: str(predictions)},
        code_paths=[str(code)],
        pip_requirements=[f"mlflow=={mlflow.__version__}", *package.requirements],
        signature=_signature(package),
        input_example=pd.DataFrame({"audio": [_example(package)]}),
    )
    if run_id is not None:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def _signature(package: Package) -> "ModelSignature":
    """Return the signature: a column of base64 text in, and an answer of this form out."""
    import pandas as pd
    from mlflow.models import infer_signature

    probabilities = dict.fromkeys(package.labels, 1.0)
    answer = {"label": "", "confidence": 1.0, "sure": True, "probabilities": probabilities}
    versions = {"model": "", "model_version": "", "package_digest": ""}
    row = {**answer, "windows": [{"start": 0.0, "end": 1.0, **answer}], **versions}
    return infer_signature(pd.DataFrame({"audio": [""]}), pd.DataFrame([row]))


def _example(package: Package) -> str:
    """Return a tone of 140 Hz with overtones as a WAV file in base64."""
    import soundfile

    limits, rate = package.description.limits, 16_000
    seconds = min(limits.max_seconds, max(0.6, limits.min_seconds + 0.1))
    phase = 2 * np.pi * 140.0 * np.arange(int(seconds * rate)) / rate
    sound = sum(np.sin(number * phase) / number for number in range(1, 25)) * np.hanning(len(phase))
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.25 * sound, rate, format="WAV", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode()
