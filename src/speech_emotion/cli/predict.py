"""Takes recordings and a model; gives a table, CSV or JSON of answers, and at the end what could not be answered."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import MODEL_HELP, Format, FormatOption

if TYPE_CHECKING:
    from speech_emotion.inference import Prediction, Recognizer

EXAMPLES = """
Examples:

speech-emotion predict clip.wav

speech-emotion predict recordings/ --format csv > emotions.csv

speech-emotion predict *.m4a --model models:/speech-emotion-tess@challenger
"""

Answers = Iterator[tuple[Path, "Prediction"]]


def predict(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER", help="Recordings; folders are searched to the bottom.", show_default=False
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help=f"{MODEL_HELP} Without it, the one that is built in."),
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Say which emotion is heard in recordings.

    Recordings are read by their content, whatever their name and sample rate: WAV, AIFF, FLAC, Ogg (Opus, Vorbis),
    MP3, MP4 and M4A (AAC, ALAC), AAC, WebM and Matroska, AMR, WMA, CAF, AU, NIST SPHERE. What cannot be used is listed
    at the end, on standard error, with the reason; the others are answered all the same, and the exit status is 1.
    """
    from speech_emotion.cli.recordings import Bad, answer, report, search
    from speech_emotion.loading import load
    from speech_emotion.progress import track

    recognizer = load(model)
    found, bad = search(recordings)
    total = len(found) + len(bad)
    unreadable: list[Bad] = []
    watched = track(found, len(found), "predict", "recordings") if len(found) > 1 else found
    chunks = answer(recognizer, watched, unreadable)
    answers = (pair for paths, rows in chunks for pair in zip(paths, recognizer.answers(rows), strict=True))
    _WRITERS[format](answers, recognizer)
    report(bad + unreadable, total)


def _write_table(answers: Answers, recognizer: "Recognizer") -> None:
    columns = ("recording", "emotion", "confidence", "next best")
    tables.write(columns, ((str(path), *_ranked(prediction)) for path, prediction in answers))


def _ranked(prediction: "Prediction") -> tuple[str, str, str]:
    second = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[1]
    return prediction.label, f"{prediction.confidence:.3f}", f"{second[0]} {second[1]:.3f}"


def _write_csv(answers: Answers, recognizer: "Recognizer") -> None:
    import csv
    import sys

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("path", "label", "confidence", *recognizer.labels))
    for path, prediction in answers:
        numbers = (prediction.confidence, *prediction.probabilities.values())
        writer.writerow((path, prediction.label, *(f"{number:.6f}" for number in numbers)))


def _write_json(answers: Answers, recognizer: "Recognizer") -> None:
    import json

    separator = "["
    for path, prediction in answers:
        row = {
            "path": str(path),
            "label": prediction.label,
            "confidence": round(prediction.confidence, 6),
            "probabilities": {label: round(value, 6) for label, value in prediction.probabilities.items()},
        }
        typer.echo(f"{separator}\n  {json.dumps(row, ensure_ascii=False)}", nl=False)
        separator = ","
    typer.echo("[]" if separator == "[" else "\n]")


_WRITERS = {Format.table: _write_table, Format.csv: _write_csv, Format.json: _write_json}
