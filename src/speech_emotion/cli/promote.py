"""Takes a version of the registered model; gives it the alias `champion`, takes it back, and tells how that came."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import CorpusOption, Format, FormatOption, corpus_name

if TYPE_CHECKING:
    from speech_emotion.registry.history import Event
    from speech_emotion.registry.promote import Outcome

PROMOTE_EXAMPLES = """
Examples:

speech-emotion promote --mode "dry run"

speech-emotion promote 3 --reason "speaks better for the second actress"

speech-emotion promote --force --reason "the old one is broken, measured by hand"
"""

ROLLBACK_EXAMPLES = """
Examples:

speech-emotion rollback --reason "too sure of itself in the field"

speech-emotion rollback --to 2
"""

HISTORY_EXAMPLES = """
Examples:

speech-emotion history

speech-emotion history --format json
"""


class ModeOption(StrEnum):
    """How gates are taken."""

    enforce = "enforce"
    dry_run = "dry run"
    off = "off"


ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever reads the history.", show_default=False)
]


def promote(
    version: Annotated[
        int | None,
        typer.Argument(metavar="VERSION", min=1, help="Its number. Without it: the challenger.", show_default=False),
    ] = None,
    mode: Annotated[
        ModeOption | None,
        typer.Option(help="`dry run` moves nothing, `off` asks no gate. Without it: promote.mode of params.yaml."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Move it though gates fail; needs --reason.")] = False,
    reason: ReasonOption = "",
) -> None:
    """Make a version the champion, if it passes the gates that params.yaml declares under `promote:`.

    Prints every gate with its figure, limit and verdict. A failed gate changes nothing, and the exit status is 1. Who,
    when, why and all figures are written into the registry; `history` shows them, `rollback` goes back.
    """
    from speech_emotion.config.params import read_settings
    from speech_emotion.registry.promote import promote as carry_out

    settings = read_settings()
    outcome = carry_out(
        Path(),
        corpus=settings.corpus.name,
        settings=settings.promote,
        evaluate=settings.evaluate,
        version=version,
        mode=None if mode is None else mode.value,
        force=force,
        reason=reason,
    )
    rows = [(gate.name, gate.figure, gate.limit, gate.verdict, gate.detail) for gate in outcome.gates]
    tables.write(("gate", "figure", "limit", "verdict", "detail"), rows)
    _end(outcome)


def rollback(
    to: Annotated[
        int | None,
        typer.Option(
            "--to", metavar="VERSION", min=1, help="Without it: the champion before this one.", show_default=False
        ),
    ] = None,
    reason: ReasonOption = "",
    corpus: CorpusOption = None,
) -> None:
    """Move the champion back to the one before, at once and without gates.

    Repeated, it goes back one more each time.
    """
    from speech_emotion.registry.promote import rollback as carry_out

    _end(carry_out(Path(), corpus=corpus_name(corpus), to=to, reason=reason))


def history(format: FormatOption = Format.table, corpus: CorpusOption = None) -> None:
    """Tell how the champion came to be: who, when, from which version to which, why, and what the gates said.

    The history lies in the registered model's tags, which whoever may write to MLflow can edit. An alias that was moved
    by hand is noticed, and shown as such. JSON has every gate's figure.
    """
    from speech_emotion.registry.promote import history as read

    found = read(corpus_name(corpus))
    for line in found.lines or (() if found.events else ("no version was ever champion",)):
        typer.echo(line, err=True)
    if format is Format.json:
        typer.echo(json.dumps([_as_json(event) for event in found.events], indent=2, ensure_ascii=False))
        return
    rows = [_row(event) for event in found.events]
    if format is Format.csv:
        _write_csv(rows)
    else:
        tables.write(_COLUMNS, rows)


_COLUMNS = ("when", "who", "what", "from", "to", "gates", "why")


def _end(outcome: "Outcome") -> None:
    for line in outcome.lines:
        typer.echo(line, err=outcome.refused)
    if outcome.refused:
        raise typer.Exit(1)


def _as_json(event: "Event") -> dict[str, object]:
    gates = [
        {"name": one.name, "figure": one.figure, "limit": one.limit, "verdict": one.verdict, "detail": one.detail}
        for one in event.gates
    ]
    return {"key": event.key, "when": _when(event), **event.as_dict(), "gates": gates}


def _row(event: "Event") -> tuple[str, ...]:
    what = f"{event.kind}, forced" if event.forced else event.kind
    if event.state != "done":
        what += f" ({'not finished' if event.state == 'begun' else 'void: the version was deleted'})"
    passed = sum(gate.passed for gate in event.gates)
    failed = "".join(f"; failed {gate.sentence}" for gate in event.gates if not gate.passed)
    gates = f"{passed} of {len(event.gates)} passed{failed}" if event.gates else "not asked" if event.mode else "-"
    source, target = ("-" if one is None else str(one) for one in (event.source, event.target))
    return (_when(event), event.user, what, source, target, gates, event.reason or "-")


def _when(event: "Event") -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(event.seconds, UTC):%Y-%m-%d %H:%M:%SZ}"


def _write_csv(rows: list[tuple[str, ...]]) -> None:
    import csv
    import sys

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(rows)
