"""The command that lists trainings in MLflow."""

from typing import TYPE_CHECKING, Annotated

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import CorpusOption, corpus_name

if TYPE_CHECKING:
    from speech_emotion.registry.runs import RunSummary

EXAMPLES = """
Examples:

speech-emotion runs

speech-emotion runs --corpus demo --limit 100
"""


def runs(
    corpus: CorpusOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Maximum number, newest first.")] = 20,
) -> None:
    """List the trainings in MLflow: split, metrics, date and commit.

    UAR and accuracy are of the test part; of `full`, which has none, of the validation part. A `+` after a commit means
    that sources or settings differed from it. `mlflow ui` shows everything else.
    """
    from speech_emotion.registry.runs import list_runs

    columns = ("protocol", "fold", "status", "part", "UAR", "accuracy", "when", "commit", "run")
    tables.write(columns, map(_row, list_runs(corpus_name(corpus), limit=limit)))


def _row(run: "RunSummary") -> tuple[str, ...]:
    commit = f"{run.commit[:8]}{'+' if run.dirty else ''}" if run.commit else "-"
    figures = ("-" if value is None else f"{value:.4f}" for value in (run.uar, run.accuracy))
    started = f"{run.started:%Y-%m-%d %H:%M}"
    return (run.protocol, run.fold, run.status, run.part or "-", *figures, started, commit, run.run_id[:8])
