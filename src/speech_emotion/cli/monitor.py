"""`speech-emotion monitor`: report drift since training, with a status for schedulers."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import FormatOption, ModelOption, monitor_settings
from speech_emotion.core.errors import UserError

_AGO: Final = re.compile(r"(\d{1,5})([hd])")


def monitor(
    log: Annotated[
        Path,
        typer.Argument(metavar="LOG", help="Folder of a prediction log (`serve --log-predictions`, `predict --log`)."),
    ],
    model: ModelOption = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Start of the period: 2026-03-01, 2026-03-01T18 (UTC), or an age: 12h, 7d."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="End of the period, exclusive, as --since.")] = None,
    format: FormatOption = "table",
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write an HTML report with a plot of each measure.")
    ] = None,
) -> None:
    """Compare a period of the prediction log with the training data of the model.

    Exit status: 0 no drift, 3 drift, 4 no drift but too few rows for some measures, 1 or 2 an error.

    Examples
    --------
    * `speech-emotion monitor predictions/ --since 7d`
    * `speech-emotion monitor predictions/ --model models:/speech-emotion-tess@champion --page drift.html`
    * `speech-emotion monitor predictions/ --since 2026-03-01 --until 2026-04-01 --format json`
    """
    from speech_emotion.models.package import Package
    from speech_emotion.monitoring import drift as comparison
    from speech_emotion.monitoring import prediction_log, reference
    from speech_emotion.registry.model_resolution import resolve

    now = datetime.now(UTC)
    period = prediction_log.Period(_time("--since", since, now), _time("--until", until, now))
    if period.since is not None and period.until is not None and period.since >= period.until:
        raise UserError(f"--since {since}: must be before --until {until}.")
    settings = monitor_settings()
    package = Package.load(resolve(model).folder)
    known = reference.read(package.folder)
    found = comparison.columns(prediction_log.read(log, period), package.digest)
    drift = comparison.compare(found, known, settings)
    if page is not None:
        from speech_emotion.monitoring.report import write_page

        write_page(page, drift, found, known, settings, package=package, period=period)
    if format == "json":
        times = {"since": period.since and period.since.isoformat(), "until": period.until and period.until.isoformat()}
        content = {"package_digest": package.digest, **times, **comparison.content(drift, known)}
        typer.echo(json.dumps(content, indent=2, allow_nan=False))
    else:
        tables.write(comparison.COLUMNS, map(comparison.cells, drift.findings))
        typer.echo(comparison.summary(drift, settings), err=True)
    if drift.having("drifted"):
        raise typer.Exit(3)
    if drift.having("too few rows"):
        raise typer.Exit(4)


def _time(option: str, text: str | None, now: datetime) -> datetime | None:
    """Return the hour that an option names."""
    if text is None:
        return None
    if match := _AGO.fullmatch(text):
        found = now - timedelta(hours=int(match[1]) * (24 if match[2] == "d" else 1))
    else:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise UserError(f"{option} {text}: not a time. Use 2026-03-01, 2026-03-01T18, 12h or 7d.") from None
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.replace(minute=0, second=0, microsecond=0)
