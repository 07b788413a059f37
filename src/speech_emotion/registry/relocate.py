"""Takes a repository that was moved or restored; gives an mlflow.db whose addresses lead to the mlruns/ beside it."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from speech_emotion.core.errors import UserError
from speech_emotion.tracking.mlflow_run import place

_COLUMNS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Where MLflow's database keeps addresses of artifacts, all of them absolute."""


_PACKAGES: Final = ("model_versions", "storage_location")
"""Whose addresses must lead somewhere: an experiment or a run may never have had a file."""


@dataclass(frozen=True)
class Relocated:
    """What `relocate` did: how many addresses now lead here, and those of versions whose files are nowhere."""

    folder: Path
    changed: int
    lost: tuple[str, ...]


def relocate() -> Relocated:
    """Have every address in mlflow.db that leads elsewhere lead to the same artifacts in the mlruns/ beside it.

    An address is changed unless it leads to files that are not here: a copy then stops using the original's, and writes
    nothing among them. All of it is one transaction.

    Raises
    ------
    UserError
        MLflow's data is on a server or in another database, which keeps its own addresses; or the database is in use.
    """
    where = place()
    database = Path(where.uri.removeprefix("sqlite:///"))
    if not where.uri.startswith("sqlite:///") or where.artifacts is None:
        raise UserError(f"{where.uri} keeps its own addresses: `relocate` is for an mlflow.db in this folder.")
    if not database.exists():
        raise UserError(f"{database}: there is no database here. Run this in the root of the repository.")
    try:
        with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
            changed = sum(_relocate_column(connection, table, column, where.artifacts) for table, column in _COLUMNS)
            lost = [one for one in _addresses(connection, *_PACKAGES) if (path := _path(one)) and not path.exists()]
    except sqlite3.Error as error:
        raise UserError(f"{database}: cannot be changed ({error}). Is an MLflow server using it?") from None
    return Relocated(where.artifacts, changed, tuple(lost))


def _relocate_column(connection: sqlite3.Connection, table: str, column: str, artifacts: Path) -> int:
    changed = 0
    for old in _addresses(connection, table, column):
        new = _relocated(old, artifacts)
        if new != old:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))
            changed += 1
    return changed


def _addresses(connection: sqlite3.Connection, table: str, column: str) -> list[str]:
    query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY {column}"
    return [address for (address,) in connection.execute(query)]


def _relocated(address: str, artifacts: Path) -> str:
    """Return the address of the same artifacts below another mlruns/; the address itself where only that has files."""
    path = _path(address)
    if path is None or artifacts.name not in path.parts:
        return address
    last = len(path.parts) - 1 - path.parts[::-1].index(artifacts.name)
    here = artifacts.joinpath(*path.parts[last + 1 :])
    # a run that has no file yet is not the original's any more: what it logs next belongs here
    if here == path or (path.exists() and not here.exists()):
        return address
    return here.as_uri() if address.startswith("file:") else str(here)


def _path(address: str) -> Path | None:
    """Return the folder that an address names; None: it is no folder's."""
    if address.startswith("file:"):
        return Path(url2pathname(urlsplit(address).path))
    return Path(address) if Path(address).is_absolute() else None
