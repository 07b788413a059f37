"""Takes recordings and a model; gives a table, CSV, JSON or Parquet, and at the end what could not be answered."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import ComputeOption, ModelOption, monitor_settings
from speech_emotion.core.errors import UserError

if TYPE_CHECKING:
    from speech_emotion.config.compute import RaySettings
    from speech_emotion.inference.batch import Row
    from speech_emotion.inference.recognizer import Recognizer
    from speech_emotion.monitoring.prediction_log import Logbook

EXAMPLES = """
Examples:

speech-emotion predict clip.wav

speech-emotion predict recordings/ --output emotions.parquet

speech-emotion predict *.m4a --model models:/speech-emotion-tess@challenger

speech-emotion predict recordings/ --output emotions.csv --log predictions/
"""


class Answers(StrEnum):
    """How answers are written."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def predict(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER", help="Recordings; folders are searched to the bottom.", show_default=False
        ),
    ],
    model: ModelOption = None,
    format: Annotated[
        Answers | None,
        typer.Option(
            "--format",
            "-f",
            help="table is for reading, the others for programs. Without it: what --output ends in, else table.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to a file, whole or not at all; cut off, the same command goes on where it was.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes, for many recordings. Without it, one a core.")
    ] = None,
    compute: Annotated[
        ComputeOption | None,
        typer.Option(help="ray: the cluster of params.yaml. Without it: compute.backend there, for many recordings."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            metavar="FOLDER",
            help="Add to a log of answers for `speech-emotion monitor`: no audio, no names, times to the hour.",
        ),
    ] = None,
) -> None:
    """Say which emotion is heard in recordings.

    Recordings are read by their content, whatever their name and sample rate: WAV, AIFF, FLAC, Ogg (Opus, Vorbis),
    MP3, MP4 and M4A (AAC, ALAC), AAC, WebM and Matroska, AMR, WMA, CAF, AU, NIST SPHERE. What cannot be used is listed
    at the end, on standard error, with the reason; the others are answered all the same, and the exit status is 1.

    Thousands are answered by all cores. With --output, what was answered before a kill is not answered again.
    """
    from speech_emotion.cli.recordings import Bad, report, search
    from speech_emotion.core.progress import track
    from speech_emotion.inference.batch import Form, Row, predict_into, rows
    from speech_emotion.monitoring.prediction_log import BatchLog, Logbook
    from speech_emotion.registry.model_resolution import load

    chosen = _chosen(format, output)
    book = None if log is None else Logbook(log, monitor_settings().log)
    recognizer = load(model)
    found, bad = search(recordings)

    def watch(items: Iterable[Row], total: int) -> Iterable[Row]:
        return track(items, total, "predict", "recordings") if total > 1 else items

    nodes = _cluster(compute, asked=len(found), workers=workers)
    if nodes is not None:  # a node has another working folder
        found = [path.absolute() for path in found]
    if output is not None:
        unreadable = predict_into(
            output,
            Form(chosen),
            recognizer,
            found,
            workers=workers,
            cluster=nodes,
            watch=watch,
            resumed=_say_resumed(len(found)),
            log=None if log is None else BatchLog(log),
        )
    else:
        unreadable = []
        heard = rows(recognizer, found, workers=workers, cluster=nodes, log=None if log is None else BatchLog(log))
        _print(chosen, _good(_kept(watch(heard, len(found)), book), unreadable), recognizer)
        if book is not None:
            book.write()
    report(bad + [Bad(Path(row.path), row.reason) for row in unreadable], len(found) + len(bad))


def _chosen(format: Answers | None, output: Path | None) -> Answers:
    """Return the format that is asked for, by name or by the output's suffix."""
    if output is None:
        if format is Answers.parquet:
            raise UserError("--format parquet is no text: --output FILE says where it is to go.")
        return format or Answers.table
    suffix = output.suffix.lower().removeprefix(".")
    chosen = format or next((one for one in Answers if one.value == suffix), Answers.table)
    if chosen is Answers.table:
        raise UserError(f"{output}: --format says how it is to be written: csv, json or parquet.")
    return chosen


def _cluster(compute: ComputeOption | None, *, asked: int, workers: int | None) -> "RaySettings | None":
    """Return the cluster that answers; None: this machine does."""
    from speech_emotion.config.base import PARAMS, read_params, read_section
    from speech_emotion.config.compute import ComputeSettings
    from speech_emotion.inference.batch import FEW

    if compute is ComputeOption.ray:
        return read_section("compute", ComputeSettings).ray
    # who says how many processes means those of this machine; few recordings are answered before a cluster is reached
    here = compute is ComputeOption.local or workers is not None or asked <= FEW
    # this command works outside of a repository too, where another program's params.yaml may lie
    if here or not PARAMS.exists() or "compute" not in read_params(PARAMS):
        return None
    return read_section("compute", ComputeSettings).cluster


def _say_resumed(total: int) -> Callable[[int], None]:
    return lambda done: typer.echo(f"{done} of {total} recordings were answered before; going on after them", err=True)


def _kept(found: "Iterable[Row]", book: "Logbook | None") -> "Iterator[Row]":
    for row in found:
        if book is not None and row.entry is not None:
            book.add([row.entry])
        yield row


def _good(found: "Iterable[Row]", bad: "list[Row]") -> "Iterator[Row]":
    for row in found:
        if row.reason:
            bad.append(row)
        else:
            yield row


def _print(chosen: Answers, answered: "Iterator[Row]", recognizer: "Recognizer") -> None:
    import sys

    from speech_emotion.inference.batch import write_csv, write_json

    if chosen is Answers.table:
        columns = ("recording", "emotion", "confidence", "next best")
        tables.write(columns, ((row.path, *_ranked(row, recognizer.labels)) for row in answered))
    else:
        (write_csv if chosen is Answers.csv else write_json)(answered, recognizer.labels, sys.stdout)


def _ranked(row: "Row", labels: Sequence[str]) -> tuple[str, str, str]:
    second = sorted(zip(labels, row.probabilities, strict=True), key=lambda item: -item[1])[1]
    heard = row.label if row.sure else f"{row.label}, not sure"
    return heard, f"{row.confidence:.3f}", f"{second[0]} {second[1]:.3f}"
