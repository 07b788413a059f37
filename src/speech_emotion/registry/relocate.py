"""Repair mlflow.db after its folder was moved or restored: MLflow stores absolute addresses of artifacts.

This is the only module that uses SQL on MLflow's tables; MLflow has no function for it.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from speech_emotion.core.errors import UserError
from speech_emotion.tracking.connection import locate

_COLUMNS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""The columns with addresses of artifacts."""


def relocate() -> tuple[Path, int]:
    """Point the addresses in mlflow.db to the same artifacts in the mlruns/ beside it, in one transaction.

    Return that folder, and how many addresses were changed.

    An address stays if its files exist there and not here. A copy of a repository thus stops using the original's files
    where it has its own.

    Raises
    ------
    UserError
        MLflow's data is on a server or in another database, or the database is in use.
    """
    where = locate()
    database = where.database
    if database is None or where.artifacts is None:
        raise UserError(f"{where.uri} manages its own addresses; `relocate` is for an mlflow.db in this folder.")
    if not database.exists():
        raise UserError(f"{database}: there is no database here. Run this in the root of the repository.")
    try:
        with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
            changed = sum(_relocate_column(connection, table, column, where.artifacts) for table, column in _COLUMNS)
    except sqlite3.Error as error:
        raise UserError(f"{database}: cannot be changed ({error}). Is an MLflow server using it?") from None
    return where.artifacts, changed


def _relocate_column(connection: sqlite3.Connection, table: str, column: str, artifacts: Path) -> int:
    addresses = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()
    moves = [(new, old) for (old,) in addresses if (new := _relocated(old, artifacts)) != old]
    connection.executemany(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", moves)
    return len(moves)


def _relocated(address: str, artifacts: Path) -> str:
    """Return the address of the same artifacts in `artifacts`; unchanged if only the old one has files."""
    path = _path(address)
    if path is None or artifacts.name not in path.parts:
        return address
    last = len(path.parts) - 1 - path.parts[::-1].index(artifacts.name)
    here = artifacts.joinpath(*path.parts[last + 1 :])
    # a run without files is relocated too: what it logs next belongs here
    if here == path or (path.exists() and not here.exists()):
        return address
    return here.as_uri() if address.startswith("file:") else str(here)


def _path(address: str) -> Path | None:
    """Return the folder of an address, or None."""
    if address.startswith("file:"):
        return Path(url2pathname(urlsplit(address).path))
    return Path(address) if Path(address).is_absolute() else None
