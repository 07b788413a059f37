"""Takes a corpus; gives a table of its trainings in MLflow."""

from typing import TYPE_CHECKING, Annotated

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import CorpusOption, corpus_name

if TYPE_CHECKING:
    from speech_emotion.registry.runs import RecordedRun

EXAMPLES = """
Examples:

speech-emotion runs

speech-emotion runs --corpus demo --limit 100
"""


def runs(
    corpus: CorpusOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many, the newest first.")] = 20,
) -> None:
    """List the trainings that MLflow knows: how they were split, how good they are, when and from which commit.

    UAR and accuracy are of the test part; of `full`, which has none, they are of the validation part. A `+` after a
    commit says that sources or settings were changed since. `mlflow ui` shows everything else.
    """
    from speech_emotion.registry.runs import recorded_runs

    columns = ("protocol", "fold", "status", "part", "UAR", "accuracy", "when", "commit", "run")
    tables.write(columns, map(_row, recorded_runs(corpus_name(corpus), limit=limit)))


def _row(run: "RecordedRun") -> tuple[str, ...]:
    commit = f"{run.commit[:8]}{'+' if run.dirty else ''}" if run.commit else "-"
    figures = ("-" if value is None else f"{value:.4f}" for value in (run.uar, run.accuracy))
    return (
        run.protocol,
        run.fold,
        run.status,
        run.part or "-",
        *figures,
        f"{run.began:%Y-%m-%d %H:%M}",
        commit,
        run.run_id[:8],
    )
