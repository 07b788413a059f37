"""Commands of the model registry: publish, list, compare, promote, roll back, and show the history."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import CorpusOption, FormatOption, corpus_name

if TYPE_CHECKING:
    from speech_emotion.config.registry import Mode
    from speech_emotion.registry.history import PromotionEvent
    from speech_emotion.registry.promote import PromotionResult

ReasonOption = Annotated[str, typer.Option(metavar="TEXT", help="Why, for those who read the history.")]
Name = Annotated[str, typer.Argument(help="`champion`, `challenger`, or a version number.")]


def publish() -> None:
    """Sync results to MLflow: a run for every training, and a registered version of the package.

    The last stage of `dvc repro` does the same. Call it after `dvc pull`, or when a server was away. What MLflow has
    already, by content, is not sent again.

    Examples
    --------
    * `dvc pull && speech-emotion publish`
    * `MLFLOW_TRACKING_URI=https://mlflow.example.org speech-emotion publish`
    """
    from speech_emotion.registry.publish import publish as sync

    for line in sync(Path.cwd(), corpus=corpus_name(None)).lines:
        typer.echo(line)


def registry(corpus: CorpusOption = None) -> None:
    """List the registered versions: aliases, UAR, commit, and whether their files exist.

    Examples
    --------
    * `speech-emotion registry --corpus demo`
    """
    from speech_emotion.registry.promote import list_versions

    found, remarks = list_versions(corpus_name(corpus))
    uars = sorted({tag for version, _ in found for tag in version.tags if tag.endswith(".uar")})
    rows = [
        (
            str(version.number),
            ", ".join(version.aliases) or "-",
            *(version.tags.get(tag, "-") for tag in uars),
            tables.commit(version.tags),
            version.package_digest[:12] or "-",
            "found" if exists else "gone",
        )
        for version, exists in found
    ]
    columns = ("version", "aliases", *(tag.replace(".uar", " UAR") for tag in uars), "commit", "package", "files")
    tables.write(columns, rows)
    for line in remarks:
        typer.echo(line, err=True)


def compare(first: Name, second: Name) -> None:
    """Compare two registered versions on the utterances that both were evaluated on.

    The difference is the first minus the second, with the 95 % interval and the p-value of a bootstrap that draws the
    same speakers or words for both. Higher is better for accuracy, UAR and macro-F1, lower for the others.

    Examples
    --------
    * `speech-emotion compare challenger champion`
    * `speech-emotion compare 3 2`
    """
    from speech_emotion.config.base import read_section
    from speech_emotion.config.evaluation import EvaluateSettings
    from speech_emotion.registry.compare_versions import compare as run

    versions, found, refused = run(corpus_name(None), (first, second), read_section("evaluate", EvaluateSettings))
    names = [f"version {version.number}" for version in versions]
    rows = [
        (
            row.protocol,
            row.metric,
            f"{row.first:.4f}",
            f"{row.second:.4f}",
            f"{row.difference.value:+.4f}",
            row.difference.interval.text("+.4f"),
            f"{row.difference.p:.4f}",
        )
        for row in found
    ]
    columns = ("protocol", "metric", *names, "difference", "95 %", "p")
    tables.write(columns, rows, title=" against ".join(names))
    for line in refused:
        typer.echo(f"not compared: {line}", err=True)


def promote(
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", min=1, help="The number of a version. Default: the challenger.")
    ] = None,
    mode: Annotated[
        Literal["enforce", "dry-run", "off"] | None,
        typer.Option(help="dry-run checks the gates and moves nothing, off skips them. Default: promote.mode."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote although gates fail; needs --reason.")] = False,
    reason: ReasonOption = "",
) -> None:
    """Make a version the champion if it passes the gates under `promote:` in params.yaml.

    Prints every gate with its figure, limit and verdict. If a gate fails, nothing changes and the exit status is 1. The
    registry records who promoted, when, why, and all figures; see `history` and `rollback`.

    Examples
    --------
    * `speech-emotion promote --mode dry-run`
    * `speech-emotion promote 3 --reason "better for the second speaker"`
    * `speech-emotion promote --force --reason "the previous one is broken, measured by hand"`
    """
    from speech_emotion.config.params import read_settings
    from speech_emotion.registry.promote import promote as run

    settings = read_settings()
    corpus, gates = settings.corpus.name, settings.promote
    result = run(
        Path(),
        corpus=corpus,
        settings=gates.applied_to(corpus, settings.split.protocols),
        evaluate=settings.evaluate,
        version=version,
        mode=cast("Mode", mode.replace("-", "_")) if mode else None,
        force=force,
        reason=reason,
    )
    if result.gates:
        if corpus != gates.corpus:
            typer.echo(f"the limits of promote.protocols are for {gates.corpus}: skipped for {corpus}", err=True)
        rows = [(it.name, it.figure, it.limit, "passed" if it.passed else "FAILED", it.detail) for it in result.gates]
        tables.write(("gate", "figure", "limit", "verdict", "detail"), rows)
    _print(result)


def rollback(
    to: Annotated[
        int | None, typer.Option(metavar="VERSION", min=1, help="A version. Default: the previous champion.")
    ] = None,
    reason: ReasonOption = "",
    corpus: CorpusOption = None,
) -> None:
    """Make the previous champion the champion again, without gates.

    Repeat it to go back further; `--to` undoes a rollback.

    Examples
    --------
    * `speech-emotion rollback --reason "overconfident in production"`
    * `speech-emotion rollback --to 2`
    """
    from speech_emotion.registry.promote import rollback as run

    _print(run(Path(), corpus=corpus_name(corpus), to=to, reason=reason))


def history(format: FormatOption = "table", corpus: CorpusOption = None) -> None:
    """Show the promotion history: who, when, from which version to which, why, and what the gates said.

    The history is kept in tags of the registered model; whoever may write to MLflow can edit it. A champion that was
    moved by hand is shown as such. JSON has the figures of every gate.

    Examples
    --------
    * `speech-emotion history --format json`
    """
    from speech_emotion.registry.promote import overview

    now, remarks = overview(corpus_name(corpus))
    for line in remarks or (() if now.events else ("no version was ever champion",)):
        typer.echo(line, err=True)
    if format == "json":
        events = [{"key": event.key, "when": _when(event), **asdict(event)} for event in now.events]
        typer.echo(json.dumps(events, indent=2, ensure_ascii=False))
    else:
        tables.write(("when", "who", "what", "from", "to", "gates", "why"), map(_row, now.events))


def _print(result: "PromotionResult") -> None:
    for line in result.lines:
        typer.echo(line, err=result.refused)
    if result.refused:
        raise typer.Exit(1)


def _row(event: "PromotionEvent") -> tuple[str, ...]:
    what = f"{event.kind}, forced" if event.forced else event.kind
    if event.state != "done":
        what += f" ({'not finished' if event.state == 'begun' else 'void: the version was deleted'})"
    passed = sum(gate.passed for gate in event.gates)
    failed = "".join(f"; failed {gate.name}" for gate in event.gates if not gate.passed)
    gates = f"{passed} of {len(event.gates)} passed{failed}" if event.gates else "skipped" if event.mode else "-"
    source, target = ("-" if one is None else str(one) for one in (event.source, event.target))
    return (_when(event), event.user, what, source, target, gates, event.reason or "-")


def _when(event: "PromotionEvent") -> str:
    return f"{datetime.fromtimestamp(event.seconds, UTC):%Y-%m-%d %H:%M:%SZ}"
