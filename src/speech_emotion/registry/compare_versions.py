"""Takes two models that MLflow knows, versions or runs; gives their figures side by side, with paired intervals."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.errors import UserError
from speech_emotion.evaluation.bootstrap import Difference, differences
from speech_emotion.evaluation.metrics import mean_of, metrics
from speech_emotion.registry import evidence, versions
from speech_emotion.registry.promote import asking, predictions_of
from speech_emotion.registry.runs import RecordedRun, recorded_runs
from speech_emotion.tracking.mlflow_run import fluent, place

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from speech_emotion.registry.evidence import Judged

_LONGEST_VERSION: Final = 5
"""Digits; a longer number is the beginning of a run's id."""


@dataclass(frozen=True)
class Line:
    """One metric of one protocol.

    Attributes
    ----------
    protocol, metric : str
    first, second : float
        The mean over the folds.
    difference : Difference
        First minus second, on the same utterances.
    """

    protocol: str
    metric: str
    first: float
    second: float
    difference: Difference


@dataclass(frozen=True)
class Comparison:
    """Two models side by side.

    Attributes
    ----------
    first, second : str
        What they are, in words.
    lines : tuple of Line
        Of the protocols that both were judged by, on the same split.
    refused : tuple of str
        What could not be compared, and why.
    """

    first: str
    second: str
    lines: tuple[Line, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class _Side:
    title: str
    judged: "Mapping[str, Judged]"


def compare(corpus: str, first: str, second: str, settings: EvaluateSettings) -> Comparison:
    """Compare two models by what each answered to the same utterances.

    Parameters
    ----------
    corpus : str
        Its name in params.yaml.
    first, second : str
        An alias (`champion`), a version's number (`3`), or a run's id or its beginning, as `speech-emotion runs` shows.
    settings : EvaluateSettings
        Bins and bootstrap.

    Raises
    ------
    UserError
        One of them is not known, has no predictions, or nothing of the two can be compared.
    """
    with tempfile.TemporaryDirectory() as folder:
        sides = []
        for number, name in enumerate((first, second)):
            target = Path(folder) / str(number)
            target.mkdir()
            sides.append(_side(corpus, name, target))
    one, other = sides
    lines: list[Line] = []
    refused = []
    for protocol in dict.fromkeys([*one.judged, *other.judged]):
        why = _unlike(one.judged.get(protocol), other.judged.get(protocol))
        if why:
            refused.append(f"{protocol}: {why}")
        else:
            lines += _lines(protocol, one.judged[protocol], other.judged[protocol], settings)
    if not lines:
        raise UserError(f"{one.title} and {other.title} cannot be compared. {'; '.join(refused) or 'No predictions.'}")
    return Comparison(one.title, other.title, tuple(lines), tuple(refused))


def _side(corpus: str, name: str, folder: Path) -> _Side:
    is_alias = name in {versions.CHAMPION, versions.CHALLENGER}
    if is_alias or (name.isdecimal() and len(name) <= _LONGEST_VERSION):
        with asking(corpus) as (client, model):
            return _version(client, model, name, folder)
    return _run(corpus, name, folder)


def _version(client: "MlflowClient", model: str, name: str, folder: Path) -> _Side:
    existing = versions.versions(client, model)
    found = next((one for one in existing if name in (str(one.number), *one.aliases)), None)
    if found is None:
        known = ", ".join(str(one.number) for one in reversed(existing)) or "none"
        raise UserError(f"{model}: there is no '{name}'. Its versions: {known}.")
    judged = predictions_of(client, model, found.number, folder)
    if not judged:
        raise UserError(f"{found.uri}: no predictions were registered with it; `speech-emotion publish` does that.")
    return _Side(f"version {found.number}", judged)


def _run(corpus: str, name: str, folder: Path) -> _Side:
    known = [run for run in recorded_runs(corpus, limit=1000) if run.run_id.startswith(name)]
    if len(known) != 1:
        what = "is the beginning of several runs' ids" if known else "is no alias, version or run of this corpus"
        raise UserError(f"'{name}' {what}. `speech-emotion runs` and `speech-emotion registry` list them.")
    return _of_run(known[0], folder)


def _of_run(run: RecordedRun, folder: Path) -> _Side:
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    where = place()
    title = f"run {run.run_id[:8]} ({run.protocol}/{run.fold})"
    try:
        with fluent(where):
            tags = MlflowClient(where.uri).get_run(run.run_id).data.tags
            path = Path(
                download_artifacts(run_id=run.run_id, artifact_path="evaluation/predictions.csv", dst_path=str(folder))
            )
    except (MlflowException, OSError):
        raise UserError(
            f"{title}: has no predictions. It was not evaluated, or its files are gone; `speech-emotion publish` sends "
            "what the workspace has of it."
        ) from None
    return _Side(title, {run.protocol: evidence.judged(path, tags.get("digest.split", ""), fold=run.fold)})


def _unlike(one: "Judged | None", other: "Judged | None") -> str:
    """Return why two sets of predictions cannot be compared, or an empty text."""
    if one is None or other is None:
        return f"the {'first' if one is None else 'second'} has no predictions of it"
    if one.split != other.split:
        return f"their splits differ ({one.split[:8]}, {other.split[:8]})"
    if one.utterances != other.utterances or one.labels != other.labels:
        return "their predictions are of other utterances or emotions"
    return ""


def _lines(protocol: str, one: "Judged", other: "Judged", settings: EvaluateSettings) -> Iterator[Line]:
    bins, bootstrap = settings.calibration_bins, settings.bootstrap
    found = differences(one.folds, other.folds, bins=bins, resamples=bootstrap.resamples, seed=bootstrap.seed)
    figures = [
        mean_of([metrics(fold.truth, fold.probabilities, side.labels, bins=bins) for fold in side.folds])
        for side in (one, other)
    ]
    for metric, difference in found.items():
        yield Line(protocol, metric, figures[0][metric], figures[1][metric], difference)
