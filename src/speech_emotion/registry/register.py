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
from speech_emotion.evaluation.bootstrap import Interval
from speech_emotion.models.package import Package
from speech_emotion.registry.compare_versions import PREDICTIONS, SPLITS
from speech_emotion.registry.versions import PACKAGE_ARTIFACT, PACKAGE_DIGEST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.models import ModelSignature

_METRICS: Final = {"uar": "UAR", "accuracy": "accuracy", "ece": "ECE"}
"""The metrics in the description of a version."""

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

    `run` is the training of the weights, if MLflow has it. `predictions` is the folder from `copy_predictions`;
    with it, two versions can be compared anywhere.
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
        description=_description(package, tags.get("git.commit", "")),
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
