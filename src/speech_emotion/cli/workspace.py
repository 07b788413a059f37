"""Commands about this workspace: its corpora, presets and trainings."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import CorpusOption, corpus_name
from speech_emotion.core.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities import Run


def data() -> None:
    """List the corpora, their licences, and which of them are on this machine.

    `corpus.kind` in params.yaml chooses one by the name in the first column.

    Examples
    --------
    * `speech-emotion data`
    * `TESS_DIR=~/TESS dvc repro`
    """
    from speech_emotion.data.inventory import corpus_states

    tables.write(("kind", "corpus", "licence", "state"), corpus_states(Path()))


def preset(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="demo, own, reference, tess or voices (in presets/), or the path of one."),
    ],
) -> None:
    """Write a preset into params.yaml and show the diff.

    A preset sets the keys in its file only: apply `tess` first to undo another one. A preset that would make an
    impossible setting changes nothing. `git checkout params.yaml` takes it back.

    Examples
    --------
    * `speech-emotion preset reference && dvc repro`
    """
    from speech_emotion.config.presets import apply

    typer.echo(apply(name) or "params.yaml has these settings already.\n", nl=False)


def runs(
    corpus: CorpusOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Maximum number, newest first.")] = 20,
) -> None:
    """List the trainings in MLflow: split, metrics, date and commit.

    UAR and accuracy are of the test part, or of the validation part if there is none. A `+` after a commit means that
    sources or settings differed from it. `mlflow ui` shows everything else.

    Examples
    --------
    * `speech-emotion runs --corpus demo --limit 100`
    """
    columns = ("protocol", "fold", "status", "part", "UAR", "accuracy", "when", "commit", "run")
    tables.write(columns, map(_row, _newest_runs(corpus_name(corpus), limit)))


def _newest_runs(corpus: str, limit: int) -> list["Run"]:
    from speech_emotion.tracking.connection import find_experiment, locate, model_name, session

    where = locate()
    found: list[Run] = []
    if not where.is_missing:
        with session("") as client:
            experiment = find_experiment(client, model_name(corpus))
            if experiment is not None:
                found = list(client.search_runs([experiment], order_by=["start_time DESC"], max_results=limit))
    if not found:
        raise UserError(f"{where.name} has no runs of '{corpus}' yet. Run `dvc repro`, or `speech-emotion publish`.")
    return found


def _row(run: "Run") -> tuple[str, ...]:
    metrics, tags = run.data.metrics, run.data.tags
    part = next((part for part in ("test", "validation") if f"{part}/uar" in metrics), "-")
    return (
        tags.get("protocol", ""),
        tags.get("fold", ""),
        run.info.status,
        part,
        *(f"{metrics[name]:.4f}" if name in metrics else "-" for name in (f"{part}/uar", f"{part}/accuracy")),
        f"{datetime.fromtimestamp(run.info.start_time / 1000):%Y-%m-%d %H:%M}",
        tables.commit(tags),
        run.info.run_id[:8],
    )
