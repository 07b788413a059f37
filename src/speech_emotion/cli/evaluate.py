"""Takes a model and a folder of labelled recordings; gives the same metrics as the pipeline's evaluate stage."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import MODEL_HELP
from speech_emotion.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = """
Examples:

speech-emotion evaluate models/tess/package --on recordings/

speech-emotion evaluate models:/speech-emotion-tess@challenger --on recordings/ --map joy=happy --leave-out boredom
"""


class ReportFormat(StrEnum):
    """How metrics are printed."""

    table = "table"
    json = "json"


@dataclass(frozen=True)
class Result:
    """What a model made of labelled recordings.

    Attributes
    ----------
    metrics : mapping
        As `metrics.metrics` gives them.
    confusion : np.ndarray [shape=(labels, labels)]
        Counts: true label by row, predicted by column.
    labels : tuple of str
    """

    metrics: Mapping[str, Any]
    confusion: "np.ndarray"
    labels: tuple[str, ...]


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)],
    on: Annotated[
        Path,
        typer.Option(
            "--on",
            metavar="FOLDER",
            help="Recordings in emotion/ or speaker/emotion/ sub-folders, or with a CSV of path, emotion and speaker.",
            show_default=False,
        ),
    ],
    map: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="YOURS=MODEL'S", help="Your name of an emotion, and the model's. Repeatable."),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="YOURS", help="An emotion that the model does not know. Repeatable."),
    ] = None,
    bins: Annotated[int, typer.Option(min=2, max=100, help="Bins of the calibration error (ECE).")] = 15,
    format: Annotated[ReportFormat, typer.Option("--format", "-f", help="table is for reading.")] = ReportFormat.table,
) -> None:
    """Measure a model on your own labelled recordings.

    Prints the unweighted average recall (UAR), accuracy, macro-F1, negative log-likelihood, Brier score, calibration
    error, the recall of each emotion and the confusion matrix: the figures that `dvc repro` reports. Every label in the
    folder must be one of the model's, by its own name or by `--map`. Recordings that cannot be used are listed at the
    end; the figures are of the others, and the exit status is 1.
    """
    from speech_emotion.cli.recordings import Bad, report
    from speech_emotion.data.labels import read_labelled
    from speech_emotion.registry.model_resolution import load

    recognizer = load(model)
    labelled = read_labelled(on)
    emotions = {labelled.root / one.path: one.emotion for one in labelled.utterances}
    mapping = label_mapping(set(emotions.values()), recognizer.labels, map or [], leave_out or [])
    truth = {path: mapping[emotion] for path, emotion in emotions.items() if emotion in mapping}
    bad: list[Bad] = []
    result = _evaluate(recognizer, truth, bins, bad)
    if result is not None:
        (_print_json if format is ReportFormat.json else _print_tables)(result)
    report(bad, len(truth))


def label_mapping(
    found: set[str], known: Sequence[str], pairs: Sequence[str], left_out: Sequence[str]
) -> dict[str, str]:
    """Return the model's label for each of the folder's, without those that are left out.

    Raises
    ------
    UserError
        A label is neither the model's, mapped nor left out, or it is two of these; a mapping or an omission names what
        is not there.
    """
    mapping = {label: label for label in found if label in known}
    said: dict[str, str] = {}
    for pair in pairs:
        yours, equals, model = pair.partition("=")
        if not (yours and equals and model):
            raise UserError(f"--map {pair}: expected YOURS=MODEL'S, as in --map joy=happy.")
        if model not in known:
            raise UserError(f"--map {pair}: the model has no label '{model}'. It has {', '.join(known)}.")
        if said.setdefault(yours, model) != model:
            raise UserError(
                f"--map {pair}: '{yours}' is mapped to '{said[yours]}' already. Keep the one that is meant."
            )
        mapping[yours] = model
    for name in said:
        if name in left_out:
            raise UserError(
                f"--leave-out {name}: '{name}' is mapped to '{said[name]}' too. Keep the one that is meant."
            )
    strangers = sorted(({*mapping} | {*left_out}) - found)
    if strangers:
        raise UserError(f"no recording is labelled '{strangers[0]}'. The labels found: {', '.join(sorted(found))}.")
    unknown = sorted(found - {*mapping} - {*left_out})
    if unknown:
        raise UserError(_unknown_labels(unknown, known))
    if found <= {*left_out}:
        raise UserError("every recording is left out.")
    return {yours: model for yours, model in mapping.items() if yours not in left_out}


def _unknown_labels(unknown: Sequence[str], known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
    example = f"--map {unknown[0]}={nearest[0] if nearest else known[0]}"
    return (
        f"the model does not know {', '.join(repr(label) for label in unknown)}. It knows {', '.join(known)}. "
        f"Say which is meant ({example}) or that it is not ({'--leave-out ' + unknown[0]})."
    )


def _evaluate(recognizer: Any, truth: Mapping[Path, str], bins: int, bad: list[Any]) -> Result | None:
    import numpy as np

    from speech_emotion.cli.recordings import answer
    from speech_emotion.core.progress import track
    from speech_emotion.evaluation import metrics as evaluation_metrics

    labels = recognizer.labels
    paths: list[Path] = []
    rows: list[np.ndarray] = []
    for some, probabilities in answer(recognizer, track(truth, len(truth), "evaluate", "recordings"), bad):
        paths += some
        rows.append(probabilities)
    if not rows:
        return None
    true, predicted = np.array([labels.index(truth[path]) for path in paths]), np.concatenate(rows)
    return Result(
        metrics=evaluation_metrics.metrics(true, predicted, labels, bins=bins),
        confusion=evaluation_metrics.confusion(true, predicted.argmax(axis=1), len(labels)),
        labels=labels,
    )


def _print_json(result: Result) -> None:
    import json

    typer.echo(
        json.dumps({**result.metrics, "labels": result.labels, "confusion": result.confusion.tolist()}, indent=2)
    )


def _print_tables(result: Result) -> None:
    metrics = result.metrics
    flat = [(name, _figure(value)) for name, value in metrics.items() if not isinstance(value, Mapping)]
    tables.write(("metric", "value"), flat)
    counts = Counter(dict(zip(result.labels, result.confusion.sum(axis=1).tolist(), strict=True)))
    rows = [(label, str(counts[label]), _figure(value)) for label, value in metrics["recall"].items()]
    tables.write(("emotion", "recordings", "recall"), rows)
    confusion = [
        (label, *map(str, row)) for label, row in zip(result.labels, result.confusion.tolist(), strict=True) if any(row)
    ]
    tables.write(("true \\ heard", *result.labels), confusion)


def _figure(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"
