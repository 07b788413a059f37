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
from speech_emotion.data.splits import VALIDATION
from speech_emotion.evaluation.bootstrap import Interval
from speech_emotion.inference.response import COLUMN, PROFILE
from speech_emotion.models.package import Package
from speech_emotion.registry.versions import CODE_DIGEST, PACKAGE_ARTIFACT, PACKAGE_DIGEST, PREDICTIONS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

_LIBRARY: Final = Path(__file__).parent.parent


def register(
    client: "MlflowClient",
    experiment: str,
    name: str,
    package: Package,
    *,
    run_id: str | None,
    tags: Mapping[str, str],
    predictions: Path,
) -> int:
    """Log a package as a model from code, register it, and return the number of the version.

    `run_id` is the training of the weights, if MLflow has it. `predictions` is a folder for
    `compare_versions.read_predictions`: with it, two versions can be compared anywhere.
    """
    import mlflow
    import pandas as pd
    from mlflow.entities import LoggedModelOutput

    # the figures of `full` without test speakers are of its validation part
    means = {
        protocol: report["mean"]
        for protocol, report in package.evaluation().items()
        if "mean" in report and report.get("part") != VALIDATION
    }
    uars = {f"{protocol}.uar": f"{mean['uar']:.4f}" for protocol, mean in means.items()}
    about = {"corpus": package.description.corpus, "labels": ", ".join(package.labels)}
    with tempfile.TemporaryDirectory() as folder:
        # each version carries the code that answers
        unwanted = shutil.ignore_patterns("__pycache__", "pretrained")
        code = shutil.copytree(_LIBRARY, Path(folder) / _LIBRARY.name, ignore=unwanted)
        digests = {PACKAGE_DIGEST: package.digest, CODE_DIGEST: digest_folder(Path(folder))}
        tags = digests | about | uars | dict(tags)
        model_id = client.create_logged_model(experiment, name="package", source_run_id=run_id, tags=tags).model_id
        mlflow.pyfunc.log_model(
            model_id=model_id,
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            artifacts={PACKAGE_ARTIFACT: str(package.folder), PREDICTIONS: str(predictions)},
            code_paths=[str(code)],
            pip_requirements=[f"mlflow=={mlflow.__version__}", *package.requirements],
            signature=_signature(package),
            input_example=pd.DataFrame({COLUMN: [_example(package)]}),
        )
    if run_id is not None:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=f"Speech emotion recognition, trained on {about['corpus']}.")
    # one request sets the digests too: after a kill, no version is left without them
    version = client.create_model_version(
        name,
        source=f"models:/{model_id}",
        run_id=run_id,
        tags=tags,
        description=_description(package, means, tags.get("git.commit", "")),
        model_id=model_id,
    )
    return int(version.version)


def _description(package: Package, means: Mapping[str, Mapping[str, Any]], commit: str) -> str:
    """Return the description of a new version: what it is, how good it is, and where its card is."""
    description = package.description
    rows = []
    for protocol, mean in means.items():
        bounds = mean.get("interval", {}).get("uar")
        interval = f" ({Interval.from_list(bounds).text()})" if bounds else ""
        rows.append(f"| {protocol} | {mean['uar']:.3f}{interval} |")
    lines = [
        f"Recognizes {', '.join(description.labels)} in speech. Trained on the corpus {description.corpus} "
        f"(protocol {description.protocol}), commit {commit[:12] or 'unknown'}, software {description.software}.",
        "",
        *("| protocol | UAR, mean over folds (95 % interval) |", "|---|---|", *rows, ""),
        "The models of the folds were trained in the same way. For new speakers, only the speaker protocol counts.",
        "",
        f"Package `{package.digest}`. Its model card is the artifact `artifacts/package/MODEL_CARD.md`.",
    ]
    return "\n".join(lines)


def _signature(package: Package) -> "ModelSignature":
    """Return the signature: columns of base64 text and profiles in, and an answer of this form out."""
    import pandas as pd
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, Schema

    probabilities = dict.fromkeys(package.labels, 1.0)
    answer = {"label": "", "confidence": 1.0, "sure": True, "probabilities": probabilities}
    versions = {"model": "", "model_version": "", "package_digest": ""}
    row = {**answer, "windows": [{"start": 0.0, "end": 1.0, **answer}], **versions}
    inputs = Schema([ColSpec("string", COLUMN), ColSpec("string", PROFILE, required=False)])
    return ModelSignature(inputs, infer_signature(None, pd.DataFrame([row])).outputs)


def _example(package: Package) -> str:
    """Return a tone of 140 Hz as a WAV file in base64."""
    import soundfile

    limits, rate = package.description.limits, 16_000
    seconds = min(limits.max_seconds, limits.min_seconds + 0.5)
    tone = 0.25 * np.sin(2 * np.pi * 140.0 * np.arange(int(seconds * rate)) / rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, tone, rate, format="WAV", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode()
