"""The command `evaluate`: measure a model on a folder of labelled recordings."""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import MODEL_HELP, FormatOption, ProfileOption, ProfilesOption
from speech_emotion.core.errors import UserError
from speech_emotion.data.emotions import usual_names

if TYPE_CHECKING:
    from speech_emotion.evaluation.metrics import Metrics
    from speech_emotion.inference.batch import BatchRow
    from speech_emotion.inference.profile import Profiles
    from speech_emotion.inference.recognizer import Recognizer


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    on: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Recordings in emotion/ or speaker/emotion/ subfolders, or with a CSV of path, emotion and speaker.",
        ),
    ],
    map: Annotated[
        list[str] | None,
        typer.Option(metavar="YOURS=MODEL'S", help="Your label for one of the model's labels. Repeatable."),
    ] = None,
    leave_out: Annotated[list[str] | None, typer.Option(metavar="YOURS", help="Exclude a label. Repeatable.")] = None,
    enroll: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Also evaluate with so many reference recordings of each speaker."),
    ] = None,
    profile: ProfileOption = None,
    profiles: ProfilesOption = None,
    bins: Annotated[int, typer.Option(min=2, max=100, help="Bins of the calibration error (ECE).")] = 15,
    format: FormatOption = "table",
) -> None:
    """Evaluate a model on your own labelled recordings.

    Prints unweighted average recall (UAR), accuracy, macro-F1, negative log-likelihood, Brier score, calibration error,
    recall of each emotion and the confusion matrix, as `dvc repro` reports them. Every label in the folder must be a
    label of the model or a usual name of one (`surprised`, `fearful`), be mapped with --map or be excluded with
    --leave-out. Recordings that cannot be used are listed at the end and not counted; the exit status is then 1.

    With --enroll, profiles are made from recordings that are drawn from the speaker's neutral ones if there are enough,
    else from all. These are not scored. The figures without and with a profile are means over 20 draws.

    Examples
    --------
    * `speech-emotion evaluate models/tess/package --on recordings/`
    * `speech-emotion evaluate models:/NAME@challenger --on recordings/ --map joy=happy --leave-out boredom`
    * `speech-emotion evaluate src/speech_emotion/pretrained --on recordings/ --enroll 3`
    """
    from speech_emotion.cli.predict import read_profiles, report
    from speech_emotion.data.labels import read_labelled
    from speech_emotion.registry.model_resolution import load

    recognizer = load(model)
    labelled = read_labelled(on)
    emotions = {labelled.root / one.path: one.emotion for one in labelled.utterances}
    mapping = map_labels(set(emotions.values()), recognizer.labels, map or [], leave_out or [])
    truth = {path: mapping[emotion] for path, emotion in emotions.items() if emotion in mapping}
    speakers = {labelled.root / one.path: one.speaker for one in labelled.utterances}
    if enroll is not None:
        recognizer.enrolment()
        if not all(speakers.values()):
            raise UserError(f"{on}: the speakers are unknown ({labelled.layout}), and --enroll needs them.")
    metrics, confusion, bad = _measure(recognizer, truth, bins, read_profiles(recognizer, profile, profiles, [*truth]))
    unusable = {Path(row.path) for row in bad}
    usable = {path: label for path, label in truth.items() if path not in unusable}
    compared = _compare(recognizer, usable, speakers, enroll, bins) if metrics and enroll is not None else None
    if metrics and format == "json":
        found = {**metrics, "labels": recognizer.labels, "confusion": confusion}
        if compared is not None:
            found["enrolment"] = {"references": enroll, "without": compared[0], "with": compared[1]}
        typer.echo(json.dumps(found, indent=2))
    elif metrics:
        _print_tables(metrics, confusion, recognizer.labels)
        if compared is not None:
            _print_comparison(*compared)
    report(bad, len(truth))


def map_labels(found: set[str], known: Sequence[str], pairs: Sequence[str], left_out: Sequence[str]) -> dict[str, str]:
    """Return the model's label for each label of the folder; raise a UserError if one is neither known nor left out."""
    mapped: dict[str, str] = {}
    for pair in pairs:
        yours, _, model = pair.partition("=")
        if not (yours and model):
            raise UserError(f"--map {pair}: expected YOURS=MODEL'S, as in --map joy=happy.")
        model = match_usual_names({model}, known).get(model, model)
        if model not in known:
            raise UserError(f"--map {pair}: the model has no label '{model}'. It has {', '.join(known)}.")
        if mapped.setdefault(yours, model) != model:
            raise UserError(f"--map {pair}: '{yours}' is already mapped to '{mapped[yours]}'. Keep one of the two.")
    for name in sorted(mapped.keys() & {*left_out}):
        raise UserError(f"--leave-out {name}: '{name}' is also mapped to '{mapped[name]}'. Keep one of the two.")
    missing = sorted((mapped.keys() | {*left_out}) - found)
    if missing:
        raise UserError(f"no recording has the label '{missing[0]}'. Labels found: {', '.join(sorted(found))}.")
    kept = found - {*left_out}
    if not kept:
        raise UserError("every recording is left out.")
    mapped |= match_usual_names(kept - mapped.keys(), known)
    unknown = sorted(kept - {*known} - mapped.keys())
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
        raise UserError(
            f"the model does not know {', '.join(map(repr, unknown))}. It knows {', '.join(known)}. Map each to one of "
            f"these (--map {unknown[0]}={(nearest or known)[0]}) or exclude it (--leave-out {unknown[0]})."
        )
    return {label: mapped.get(label, label) for label in kept}


def match_usual_names(yours: set[str], known: Sequence[str]) -> dict[str, str]:
    """Return the model's label for each usual name of an emotion, unless two of your labels would become one."""
    found: dict[str, str] = {}
    for label in filter(usual_names, yours):
        same = [one for one in yours if usual_names(one) == usual_names(label)]
        model = [one for one in known if usual_names(one) == usual_names(label)]
        if len(same) == len(model) == 1:
            found[label] = model[0]
    return found


def _measure(
    recognizer: "Recognizer", truth: Mapping[Path, str], bins: int, profiles: "Profiles"
) -> "tuple[dict[str, Any], list[list[int]], list[BatchRow]]":
    """Return metrics, confusion counts (rows are true labels), and the recordings that cannot be used."""
    import numpy as np
    from sklearn.metrics import confusion_matrix

    from speech_emotion.core.progress import track
    from speech_emotion.evaluation.metrics import metrics
    from speech_emotion.inference.batch import rows

    labels = recognizer.labels
    found = list(track(rows(recognizer, list(truth), profiles=profiles), len(truth), "evaluate", "recordings"))
    used, bad = [row for row in found if not row.reason], [row for row in found if row.reason]
    if not used:
        return {}, [], bad
    true = np.array([labels.index(truth[Path(row.path)]) for row in used])
    predicted = np.array([row.probabilities for row in used])
    confusion = confusion_matrix(true, predicted.argmax(axis=1), labels=np.arange(len(labels)))
    return dict(metrics(true, predicted, labels, bins=bins)), confusion.tolist(), bad


def _compare(
    recognizer: "Recognizer", truth: Mapping[Path, str], speakers: Mapping[Path, str], references: int, bins: int
) -> "tuple[Metrics, Metrics]":
    """Return metrics without and with reference recordings of each speaker."""
    from speech_emotion.core.progress import track
    from speech_emotion.evaluation.enrolment import Recordings, compare

    own: dict[str, list[Path]] = {}
    for path in truth:
        own.setdefault(speakers[path], []).append(path)
    found = [Recordings(name, paths, [truth[path] for path in paths]) for name, paths in sorted(own.items())]
    return compare(recognizer, track(found, len(found), "enroll", "speakers"), references=references, bins=bins)


def _print_comparison(without: "Metrics", enrolled: "Metrics") -> None:
    names = [name for name, value in without.items() if not isinstance(value, Mapping)]
    single = [(name, _text(without[name]), _text(enrolled[name])) for name in names]
    recalls = [(label, _text(share), _text(enrolled["recall"][label])) for label, share in without["recall"].items()]
    tables.write(("mean over draws", "without profile", "with profile"), [*single, *recalls])


def _print_tables(metrics: Mapping[str, Any], confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> None:
    single = [(name, _text(value)) for name, value in metrics.items() if not isinstance(value, Mapping)]
    tables.write(("metric", "value"), single)
    counts = {label: sum(row) for label, row in zip(labels, confusion, strict=True)}
    recalls = [(label, str(counts[label]), _text(recall)) for label, recall in metrics["recall"].items()]
    tables.write(("emotion", "recordings", "recall"), recalls)
    rows = [(label, *map(str, row)) for label, row in zip(labels, confusion, strict=True) if any(row)]
    tables.write(("true \\ predicted", *labels), rows)


def _text(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"
