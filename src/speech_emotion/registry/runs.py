"""Takes a corpus; gives the runs that MLflow has of it, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from speech_emotion.core.errors import UserError
from speech_emotion.tracking.mlflow_run import Place, connect, first_line, model_name, patience, place

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class RecordedRun:
    """A training as MLflow knows it.

    Attributes
    ----------
    run_id : str
    protocol, fold : str
    status : str
        MLflow's: FINISHED, RUNNING, KILLED, FAILED.
    part : str
        What the figures are of: test, or validation where all else trains; empty before the evaluation.
    uar, accuracy : float or None
    began : datetime
        In this machine's time zone.
    commit : str
        Empty where there is none.
    dirty : bool
        Whether sources or params.yaml differed from the commit.
    """

    run_id: str
    protocol: str
    fold: str
    status: str
    part: str
    uar: float | None
    accuracy: float | None
    began: datetime
    commit: str
    dirty: bool


def recorded_runs(corpus: str, *, limit: int) -> list[RecordedRun]:
    """Return the runs of a corpus, newest first.

    Parameters
    ----------
    corpus : str
        Its name in params.yaml.
    limit : int
        How many at most.

    Raises
    ------
    UserError
        There are none, or MLflow does not answer.
    """
    where = place()
    nothing = UserError(
        f"{where.uri} has no runs of '{corpus}' yet: `dvc repro` makes them, or `speech-emotion publish`."
    )
    if where.is_missing:
        raise nothing
    with patience(10, retries=1):
        found = _search(where, connect(where), model_name(corpus), limit)
    if not found:
        raise nothing
    return [_recorded(run) for run in found]


def _search(where: Place, client: "MlflowClient", experiment: str, limit: int) -> list[Any]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return []
        return list(client.search_runs([found.experiment_id], order_by=["start_time DESC"], max_results=limit))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(f"MLflow at {where.uri} does not answer ({first_line(error)}).") from error


def _recorded(run: Any) -> RecordedRun:
    metrics, tags = run.data.metrics, run.data.tags
    part = next((part for part in ("test", "validation") if f"{part}/uar" in metrics), "")
    return RecordedRun(
        run_id=run.info.run_id,
        protocol=tags.get("protocol", ""),
        fold=tags.get("fold", ""),
        status=run.info.status,
        part=part,
        uar=metrics.get(f"{part}/uar"),
        accuracy=metrics.get(f"{part}/accuracy"),
        began=datetime.fromtimestamp(run.info.start_time / 1000).astimezone(),
        commit=_commit(tags),
        dirty="true" in (tags.get("git.source_dirty"), tags.get("git.params_dirty")),
    )


def _commit(tags: Mapping[str, str]) -> str:
    commit = tags.get("git.commit", "")
    return "" if commit.startswith("unknown") else commit
