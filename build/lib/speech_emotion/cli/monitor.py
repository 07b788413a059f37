"""`speech-emotion monitor`: report drift since training, with a status for schedulers."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import ModelOption, monitor_settings
from speech_emotion.core.errors import UserError

EXAMPLES = """
Examples:

speech-emotion monitor predictions/ --since 7d

speech-emotion monitor predictions/ --model models:/speech-emotion-tess@champion --page moved.html

speech-emotion monitor predictions/ --since 2026-03-01 --until 2026-04-01 --format json
"""

MOVED: Final = 3
"""Exit status when a measure drifted."""

UNTOLD: Final = 4
"""The exit status where nothing has, as far as there were rows enough to tell."""

_AGO: Final = re.compile(r"(\d{1,5})([hd])")


class MonitorFormat(StrEnum):
    """Output format."""

    table = "table"
    json = "json"


def monitor(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="Folder of the prediction log (`serve --log-predictions`, `predict --log`).",
            show_default=False,
        ),
    ],
    model: ModelOption = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Start of the period: 2026-03-01, 2026-03-01T18 (UTC), or 12h, 7d ago."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="End of the period (exclusive), as --since.")
    ] = None,
    format: Annotated[MonitorFormat, typer.Option("--format", "-f", help="table or json.")] = MonitorFormat.table,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write an HTML report with a plot of each measure.")
    ] = None,
) -> None:
    """Compare a period of the prediction log with the training data of the model.

    The model's package carries what its training recordings were like, and how much two halves of them differ. Exit
    status: 0 nothing has moved, 3 something has, 4 nothing has but there were too few rows to tell it all; 1 and 2, as
    everywhere, a mistake.
    """
    from speech_emotion.models.package import Package
    from speech_emotion.monitoring import prediction_log, reference
    from speech_emotion.monitoring.drift import compare, samples
    from speech_emotion.registry.model_resolution import folder_of

    now = datetime.now(UTC)
    period = prediction_log.Period(_time("--since", since, now), _time("--until", until, now))
    if period.since is not None and period.until is not None and period.since >= period.until:
        raise UserError(f"--since {since} is not before --until {until}.")
    settings = monitor_settings()
    package = Package.load(folder_of(model))
    known = reference.read(package.folder)
    found = samples(prediction_log.read(log, period), package.digest)
    drift = compare(found, known, settings)
    if page is not None:
        from speech_emotion.monitoring.report import write_page

        write_page(page, drift, found, known, settings, package=package, period=period)
    if format is MonitorFormat.json:
        import json

        from speech_emotion.monitoring.drift import content

        typer.echo(json.dumps(content(drift, known, package=package, period=period), indent=2, allow_nan=False))
    else:
        from speech_emotion.monitoring.drift import COLUMNS, cells, summary

        tables.write(COLUMNS, map(cells, drift.findings))
        typer.echo(summary(drift, settings), err=True)
    if drift.moved or drift.too_few:
        raise typer.Exit(MOVED if drift.moved else UNTOLD)


def _time(option: str, text: str | None, now: datetime) -> datetime | None:
    """Return the hour that is meant."""
    if text is None:
        return None
    if match := _AGO.fullmatch(text):
        found = now - timedelta(hours=int(match[1]) * (24 if match[2] == "d" else 1))
    else:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            known = "2026-03-01, 2026-03-01T18, 12h or 7d"
            raise UserError(f"{option} {text}: is not a time; expected, for example, {known}.") from None
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.replace(minute=0, second=0, microsecond=0)
