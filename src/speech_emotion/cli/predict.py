"""Commands that predict the emotion of recordings, and write the profile of a speaker."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import Compute, ModelOption, ProfileOption, ProfilesOption, monitor_settings
from speech_emotion.core.errors import UserError

if TYPE_CHECKING:
    from speech_emotion.config.params import RaySettings
    from speech_emotion.inference.batch import BatchRow, FileFormat
    from speech_emotion.inference.profile import Profiles
    from speech_emotion.inference.recognizer import Recognizer
    from speech_emotion.monitoring.prediction_log import Logbook

Format = Literal["table", "csv", "json", "parquet"]


def predict(
    recordings: Annotated[
        list[Path], typer.Argument(metavar="FILE|FOLDER", help="Recordings; folders are searched recursively.")
    ],
    model: ModelOption = None,
    format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="Output format. Default: the suffix of --output, else table."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to a file, atomically. After an interruption, the same command resumes.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes, for many recordings. Default: one per core.")
    ] = None,
    compute: Annotated[
        Compute | None,
        typer.Option(help="ray: the cluster of params.yaml. Default, for many recordings: its compute.backend."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Append to a prediction log for `speech-emotion monitor`: no audio, no names, times to the hour.",
        ),
    ] = None,
    profile: ProfileOption = None,
    profiles: ProfilesOption = None,
) -> None:
    """Predict the emotion of recordings.

    The format of a recording is detected from its content: WAV, AIFF, FLAC, Ogg (Opus, Vorbis), MP3, MP4 and M4A (AAC,
    ALAC), AAC, WebM and Matroska, AMR, WMA, CAF, AU, NIST SPHERE, at any sample rate. Recordings that cannot be used
    are listed on standard error with the reason; the exit status is then 1.

    Many recordings are processed on all cores. With --output, an interrupted command resumes where it stopped.

    Examples
    --------
    * `speech-emotion predict clip.wav`
    * `speech-emotion predict recordings/ --output emotions.parquet`
    * `speech-emotion predict *.m4a --model models:/speech-emotion-tess@challenger`
    * `speech-emotion predict recordings/ --output emotions.csv --log predictions/`
    * `speech-emotion predict recordings/ --profiles speakers/`
    """
    from speech_emotion.core.progress import track
    from speech_emotion.inference.batch import BatchRow, predict_into, rows
    from speech_emotion.registry.model_resolution import load

    chosen = _format(format, output)
    logbook = None
    if log is not None:
        from speech_emotion.monitoring.prediction_log import Logbook

        logbook = Logbook(log, monitor_settings().log)
    recognizer = load(model)
    found, bad = search(recordings)
    speakers = read_profiles(recognizer, profile, profiles, found)
    cluster = _cluster(compute, recordings=len(found), workers=workers)
    if cluster is not None:  # a node has another working folder
        found = [path.absolute() for path in found]

    def watch(items: Iterable[BatchRow], total: int) -> Iterable[BatchRow]:
        return track(items, total, "predict", "recordings") if total > 1 else items

    def resumed(done: int) -> None:
        typer.echo(f"resuming after {done} of {len(found)} recordings", err=True)

    options: dict[str, Any] = {"workers": workers, "cluster": cluster, "log": logbook, "profiles": speakers}
    if output is not None:
        file = cast("FileFormat", chosen)
        failed = predict_into(output, file, recognizer, found, watch=watch, resumed=resumed, **options)
    else:
        failed = []
        results = watch(rows(recognizer, found, **options), len(found))
        _print(chosen, _successful(results, failed, logbook), recognizer)
        if logbook is not None:
            logbook.flush()
    report(bad + failed, len(found) + len(bad))


def enroll(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER", help="Recordings of one speaker, about ten seconds in all; neutral speech is best."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The profile, in JSON.")],
    model: ModelOption = None,
) -> None:
    """Write the profile of a speaker, for `predict --profile`, the server and Python.

    A profile says how the speaker's voice differs from the average voice of the training data. It holds the mean of
    each feature, no audio, and fits only models with the same features.

    Examples
    --------
    * `speech-emotion enroll anna/normal_voice.wav --output anna.json`
    * `speech-emotion predict anna/ --profile anna.json`
    """
    from speech_emotion.registry.model_resolution import load

    found, bad = search(recordings)
    if bad:
        raise UserError(f"{bad[0].path}: {bad[0].reason}.")
    recognizer = load(model)
    profile = recognizer.enroll(found)
    profile.save(output)
    features = recognizer.package.description.features
    seconds = profile.frames * features.hop_length / features.sample_rate
    typer.echo(f"{output}: {seconds:.1f} s of speech from {len(found)} recording{'s' * (len(found) > 1)}")


def search(places: Iterable[Path]) -> "tuple[list[Path], list[BatchRow]]":
    """Return the recordings of files and folders, in order, and the folders without any.

    A folder is searched recursively for the suffixes of recordings, hidden names left out; raises a UserError if one
    cannot be read.
    """
    from speech_emotion.audio.decode import SUFFIXES
    from speech_emotion.core.io import walk_files
    from speech_emotion.inference.batch import BatchRow

    found: list[Path] = []
    bad = []
    for place in places:
        inside = [place]
        if place.is_dir():
            inside = [path for path in walk_files(place) if path.suffix.lower() in SUFFIXES]
        found += inside
        if not inside:
            bad.append(BatchRow(str(place), f"holds no recordings ({' '.join(sorted(SUFFIXES))})"))
    return found, bad


def report(bad: "Sequence[BatchRow]", recordings: int) -> None:
    """Print unusable recordings to standard error and exit with status 1, if there are any."""
    if not bad:
        return
    typer.echo(f"{len(bad)} of {recordings} recordings could not be used:", err=True)
    for one in bad:
        typer.echo(f"  {one.path}: {one.reason}", err=True)
    raise typer.Exit(1)


def read_profiles(
    recognizer: "Recognizer", profile: Path | None, profiles: Path | None, recordings: Sequence[Path]
) -> "Profiles":
    """Read speaker profiles and say how many recordings have one; raise a UserError if the model refuses one."""
    from speech_emotion.inference.profile import Profiles

    found = Profiles.load(profile, profiles)
    for name, one in {**found.named, "": found.other}.items():
        if one is not None:
            try:
                recognizer.with_profile(one)
            except UserError as error:
                raise UserError(f"{f'{profiles}: {name}' if name else profile}: {error}") from None
    if profiles is not None:
        with_profile = sum(found.of(path) is not None for path in recordings)
        typer.echo(f"{with_profile} of {len(recordings)} recordings have a speaker profile", err=True)
    return found


def _format(format: Format | None, output: Path | None) -> str:
    """Return the given format, or the one of the output's suffix."""
    if output is None:
        if format == "parquet":
            raise UserError("--format parquet needs --output FILE.")
        return format or "table"
    suffix = output.suffix.lower().removeprefix(".")
    chosen = format or suffix
    if chosen == "table" or chosen not in get_args(Format):
        raise UserError(f"{output}: give the format of the file with --format csv, json or parquet.")
    return chosen


def _cluster(compute: Compute | None, *, recordings: int, workers: int | None) -> "RaySettings | None":
    """Return the cluster to use; None for this machine."""
    from speech_emotion.inference.batch import FEW

    # --workers means processes of this machine, and few recordings take less time than connecting to a cluster
    here = compute == "local" or workers is not None or recordings <= FEW
    if here and compute != "ray":
        return None
    from speech_emotion.config.base import section_or
    from speech_emotion.config.params import ComputeSettings

    settings = section_or(ComputeSettings(workers=None), "compute")
    return settings.ray if compute == "ray" else settings.cluster


def _successful(results: "Iterable[BatchRow]", failed: "list[BatchRow]", log: "Logbook | None") -> "Iterator[BatchRow]":
    """Yield the predictions and log them; collect the others in `failed`."""
    for row in results:
        if log is not None and row.entry is not None:
            log.add([row.entry])
        if row.reason:
            failed.append(row)
        else:
            yield row


def _print(format: str, results: "Iterator[BatchRow]", recognizer: "Recognizer") -> None:
    from speech_emotion.inference.batch import write_csv, write_json

    if format == "table":
        columns = ("recording", "emotion", "confidence", "next best")
        tables.write(columns, (_cells(row, recognizer.labels) for row in results))
    else:
        (write_csv if format == "csv" else write_json)(results, recognizer.labels, sys.stdout)


def _cells(row: "BatchRow", labels: Sequence[str]) -> tuple[str, ...]:
    label, share = sorted(zip(labels, row.probabilities, strict=True), key=lambda item: -item[1])[1]
    emotion = row.label if row.sure else f"{row.label}, not sure"
    return row.path, emotion, f"{row.confidence:.3f}", f"{label} {share:.3f}"
