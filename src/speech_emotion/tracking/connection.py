"""Locate MLflow and open it."""

import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.core.errors import UserError, first_line, in_words, mask_credentials
from speech_emotion.core.process import environment

if TYPE_CHECKING:
    from mlflow import MlflowClient

VARIABLE: Final = "MLFLOW_TRACKING_URI"

_OPEN_SECONDS: Final = 5
"""The longest time of the first request, and of the first connection to a database."""


@dataclass(frozen=True)
class MlflowLocation:
    """Where MLflow keeps runs and the registry: the tracking URI, and the artifact folder (None: a server knows)."""

    uri: str
    artifacts: Path | None

    @property
    def name(self) -> str:
        """The URI without credentials, for messages."""
        return mask_credentials(self.uri)

    @property
    def database(self) -> Path | None:
        """The SQLite file; None for a server or another database."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:///") else None

    @property
    def is_missing(self) -> bool:
        """Whether it is a database file that does not exist. MLflow would create it when asked about it."""
        return self.database is not None and not self.database.exists()


def home() -> Path:
    """Return the root of the repository: DVC's inside a stage, else the nearest folder with a params.yaml."""
    if os.environ.get("DVC_ROOT"):
        # `dvc exp run --temp` works in a temporary folder; DVC_ROOT names the permanent one
        return Path(os.environ["DVC_ROOT"]).resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "params.yaml").exists()), here)


def locate() -> MlflowLocation:
    """Return MLFLOW_TRACKING_URI, else the mlflow.db that a bare `mlflow ui` in the root of the repository opens."""
    uri = os.environ.get(VARIABLE, "").strip() or f"sqlite:///{(home() / 'mlflow.db').as_posix()}"
    if re.match("sqlite:///.", uri):
        database = (home() / uri.removeprefix("sqlite:///")).resolve()
        return MlflowLocation(f"sqlite:///{database.as_posix()}", database.parent / "mlruns")
    if re.match("https?://.", uri):
        return MlflowLocation(uri.rstrip("/"), None)
    if re.match(r"(postgresql|mysql)(\+\w+)?://.", uri):
        # not SQLAlchemy's default driver, but the one that is installed
        return MlflowLocation(uri.replace("postgresql://", "postgresql+psycopg2://"), home() / "mlruns")
    if re.match(r"[\w.-]+:\d+(/|$)", uri):
        cure = f"Write http://{uri}, with the scheme."
    elif "://" not in uri or uri.startswith("file:"):
        cure = "A folder cannot hold a registry. Unset the variable to use mlflow.db, or write sqlite:///mlflow.db."
    else:
        cure = "Write http://host:port, sqlite:///mlflow.db or postgresql+psycopg2://user@host/name."
    raise UserError(f"{VARIABLE}={uri}: not an MLflow server or database. {cure}")


def model_name(corpus: str) -> str:
    """Return the name that a corpus's experiment and its registered model share."""
    return f"speech-emotion-{corpus}"


def connect(where: MlflowLocation) -> "MlflowClient":
    """Open MLflow and return a client; raise within seconds if its database does not respond."""
    quiet()
    from mlflow import MlflowClient

    # connect once with a short timeout: MLflow itself waits 20 s for a lock, and retries for minutes
    if where.database is not None and where.artifacts is not None:
        if not where.database.exists() and where.database.parent.is_dir():
            _create_database(where.database)
        begin = "BEGIN IMMEDIATE" if os.access(where.database, os.W_OK) else "BEGIN"
        with closing(sqlite3.connect(where.database, timeout=_OPEN_SECONDS, isolation_level=None)) as connection:
            connection.execute(begin)
    elif where.artifacts is not None:
        from sqlalchemy import NullPool, create_engine

        create_engine(where.uri, connect_args={"connect_timeout": _OPEN_SECONDS}, poolclass=NullPool).connect().close()
    return MlflowClient(tracking_uri=where.uri, registry_uri=where.uri)


@contextmanager
def session(advice: str) -> Iterator["MlflowClient"]:
    """Open MLflow; a failure of MLflow, its server or its database becomes one UserError that ends in `advice`.

    What does not respond is noticed within ten seconds; later requests, an upload among them, may take longer.
    """
    where = locate()
    quiet()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with timeouts(_OPEN_SECONDS, retries=0):
            client = connect(where)
            client.search_experiments(max_results=1)
        # those functions of MLflow that accept no client read the variable
        with timeouts(30, retries=2), environment({VARIABLE: where.uri}):
            yield client
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        if isinstance(error, OSError) and (of_this_machine := in_words(error)):
            raise UserError(of_this_machine) from error
        message = f"MLflow at {where.name} failed ({first_line(error)}). {_cure(where, error)} {advice}"
        raise UserError(message.strip()) from error


@contextmanager
def timeouts(seconds: int, *, retries: int) -> Iterator[None]:
    """Limit MLflow's requests (by default 120 s with seven retries), unless the user has set limits."""
    wanted = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries)}
    with environment({name: value for name, value in wanted.items() if name not in os.environ}):
        yield


def quiet() -> None:
    """Turn off MLflow's telemetry, messages and redirects; call it before MLflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # it logs tracebacks of failures that end in one message here
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # a redirect could send credentials to another host
    os.environ["MLFLOW_ALLOW_HTTP_REDIRECTS"] = "false"


def experiment_id(client: "MlflowClient", where: MlflowLocation, corpus: str) -> str:
    """Return the id of a corpus's experiment, which is created if needed."""
    from mlflow.exceptions import MlflowException

    name = model_name(corpus)
    if found := find_experiment(client, name):
        return found
    folder = None if where.artifacts is None else (where.artifacts / name).as_uri()
    # without this tag, MLflow's pages show an experiment about prompts and agents
    kind = {"mlflow.experimentKind": "custom_model_development"}
    try:
        return str(client.create_experiment(name, artifact_location=folder, tags=kind))
    except MlflowException:
        # another training may have created it at the same moment
        if found := find_experiment(client, name):
            return found
        raise


def find_experiment(client: "MlflowClient", name: str) -> str | None:
    """Return the id of an experiment, or None; raise a UserError if it was deleted."""
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise UserError(
            f"{name}: this MLflow experiment was deleted. Restore it with `mlflow experiments restore --experiment-id "
            f"{found.experiment_id}`, or remove it for good with `mlflow gc --experiment-ids {found.experiment_id}`."
        )
    return None if found is None else str(found.experiment_id)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by their paths, such as `train.epochs`, as MLflow lists parameters."""
    items: dict[str, Any] = {}
    for key, value in values.items():
        items |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return items


def _cure(where: MlflowLocation, error: Exception) -> str:
    text = str(error)
    if "database is locked" in text:
        return "Another process holds the database. Wait for it, or end it."
    if where.database is not None and ("malformed" in text or "not a database" in text):
        return (
            f"The file is damaged. Restore it from a backup, or move it away: `speech-emotion publish` then writes "
            f"a new {where.database.name} from the results in this folder."
        )
    if "database schema" in text:
        return f"Make a backup, then run `mlflow db upgrade '{where.name}'`."
    what = "server" if where.artifacts is None else "database"
    return f"Check that the {what} runs and that {VARIABLE} names it, or unset the variable to use mlflow.db."


def _create_database(database: Path) -> None:
    """Create MLflow's database under another name, then move it: MLflow cannot use one whose creation was cut off."""
    from mlflow import MlflowClient

    # MLflow keeps its connections by address, so each name is used once
    folder = tempfile.TemporaryDirectory(prefix=f"{database.name}.", dir=database.parent)
    # after a failure, or if another process was faster, MLflow opens it itself, or reports why it cannot
    with suppress(Exception), folder:
        new = Path(folder.name) / database.name
        MlflowClient(f"sqlite:///{new.as_posix()}").search_experiments(max_results=1)
        os.link(new, database)
