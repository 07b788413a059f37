"""Compare two registered versions on the same utterances, with paired intervals.

A registered version carries its predictions beside its package: metrics alone say nothing about a difference.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.errors import UserError
from speech_emotion.evaluation.bootstrap import Difference, Predictions, differences
from speech_emotion.evaluation.metrics import mean_of, metrics
from speech_emotion.registry.versions import PREDICTIONS, Version, address, find, has_files, registered
from speech_emotion.tracking.connection import model_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

SPLITS: Final = "splits.json"
"""The file beside the predictions with the digest of each protocol's split."""


@dataclass(frozen=True)
class ProtocolPredictions:
    """What a model predicted for the evaluated utterances of a protocol.

    `split` is the digest of the split, training part included, and `utterances` holds the fold and id of each one.
    """

    split: str
    utterances: tuple[tuple[str, str], ...]
    labels: tuple[str, ...]
    folds: tuple[Predictions, ...]


@dataclass(frozen=True)
class MetricComparison:
    """A metric of a protocol, averaged over folds, for both versions; `difference` is the first minus the second."""

    protocol: str
    metric: str
    first: float
    second: float
    difference: Difference


def compare(
    corpus: str, names: tuple[str, str], settings: EvaluateSettings
) -> tuple[tuple[Version, Version], list[MetricComparison], list[str]]:
    """Compare two versions (aliases or numbers) by their predictions for the same utterances.

    Return the versions, the metrics of each protocol where both predicted the same split, and why not of the others.
    """
    with registered(model_name(corpus), "") as client:
        first, second = (find(client, model_name(corpus), name) for name in names)
        ours, theirs = predictions_of(client, first), predictions_of(client, second)
    rows, refused, bins = list[MetricComparison](), [], settings.calibration_bins
    for protocol in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(protocol), theirs.get(protocol)
        if one is None or other is None:
            refused.append(f"{protocol}: the {'first' if one is None else 'second'} has no predictions of it")
        elif why := why_incomparable(one, other):
            refused.append(f"{protocol}: {why}")
        else:
            mean, other_mean = (
                mean_of([metrics(fold.truth, fold.probabilities, side.labels, bins=bins) for fold in side.folds])
                for side in (one, other)
            )
            for metric, difference in differences(one.folds, other.folds, settings=settings).items():
                rows.append(MetricComparison(protocol, metric, mean[metric], other_mean[metric], difference))
    if not rows:
        why = "; ".join(refused) or "They have no predictions; `speech-emotion publish` registers them."
        raise UserError(f"{first.uri} and {second.uri} cannot be compared. {why}")
    return (first, second), rows, refused


def why_incomparable(one: ProtocolPredictions, other: ProtocolPredictions) -> str:
    """Return why two sets of predictions cannot be compared, or an empty text."""
    if one.split != other.split:
        return f"their splits differ ({one.split[:8]}, {other.split[:8]})"
    if one.utterances != other.utterances or one.labels != other.labels:
        return "their predictions are of other utterances or emotions"
    return ""


def predictions_of(client: "MlflowClient", version: Version) -> dict[str, ProtocolPredictions]:
    """Download the predictions of a version, by protocol; empty if it has none, or its files are gone."""
    from mlflow.artifacts import download_artifacts, list_artifacts

    source = address(client, version, PREDICTIONS)
    if not has_files(client, version) or not list_artifacts(artifact_uri=source):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        return read_predictions(Path(download_artifacts(artifact_uri=source, dst_path=folder)))


def read_predictions(folder: Path) -> dict[str, ProtocolPredictions]:
    """Read the predictions of a registered model, by protocol."""
    path = folder / SPLITS
    splits: Mapping[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {protocol: _read(folder / f"{protocol}.csv", split) for protocol, split in splits.items()}


def _read(path: Path, split: str) -> ProtocolPredictions:
    from speech_emotion.core.tables import read_table
    from speech_emotion.evaluation.protocol_report import as_predictions

    try:
        rows = read_table(path).sort_values(["fold", "id"], kind="stable").reset_index(drop=True)
        labels = tuple(str(name).removeprefix("p_") for name in rows.columns if str(name).startswith("p_"))
        folds = tuple(as_predictions(part, labels) for _, part in rows.groupby("fold", sort=True))
    except (UserError, ValueError, KeyError) as error:
        raise UserError(f"{path.name}: the predictions of a model in MLflow are damaged ({error}).") from None
    return ProtocolPredictions(split, tuple(zip(rows["fold"], rows["id"], strict=True)), labels, folds)
