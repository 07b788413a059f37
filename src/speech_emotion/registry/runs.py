"""List the MLflow runs of a corpus."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from speech_emotion.core.errors import UserError
from speech_emotion.tracking.connection import find_experiment, locate, model_name, session

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class RunSummary:
    """A training in MLflow.

    `part` is what the metrics were measured on: "test", or "validation" for a protocol without a test part; empty
    before the evaluation. `dirty` tells whether sources or params.yaml differed from the commit.
    """

    run_id: str
    protocol: str
    fold: str
    status: str
    part: str
    uar: float | None
    accuracy: float | None
    started: datetime
    commit: str
    dirty: bool
    split: str


def list_runs(corpus: str, *, limit: int) -> list[RunSummary]:
    """Return at most `limit` runs of a corpus, newest first; raise a UserError if there are none."""
    where = locate()
    missing = UserError(f"{where.name} has no runs of '{corpus}' yet. Run `dvc repro`, or `speech-emotion publish`.")
    if where.is_missing:
        raise missing
    with session("") as client:
        experiment = find_experiment(client, model_name(corpus))
        if experiment is None:
            raise missing
        found = client.search_runs([experiment], order_by=["start_time DESC"], max_results=limit)
    if not found:
        raise missing
    return [_summary(run) for run in found]


def _summary(run: "Run") -> RunSummary:
    metrics, tags = run.data.metrics, run.data.tags
    part = next((part for part in ("test", "validation") if f"{part}/uar" in metrics), "")
    commit = tags.get("git.commit", "")
    return RunSummary(
        run_id=run.info.run_id,
        protocol=tags.get("protocol", ""),
        fold=tags.get("fold", ""),
        status=run.info.status,
        part=part,
        uar=metrics.get(f"{part}/uar"),
        accuracy=metrics.get(f"{part}/accuracy"),
        started=datetime.fromtimestamp(run.info.start_time / 1000).astimezone(),
        commit="" if commit.startswith("unknown") else commit,
        dirty="true" in (tags.get("git.source_dirty"), tags.get("git.params_dirty")),
        split=tags.get("digest.split", ""),
    )
