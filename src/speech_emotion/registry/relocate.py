"""Repair mlflow.db after its folder was moved or restored: MLflow stores absolute addresses of artifacts.

This is the only module that uses SQL on MLflow's tables; MLflow has no function for it.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from speech_emotion.core.errors import UserError
from speech_emotion.tracking.connection import locate

_COLUMNS: Final = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
    ("experiments", "artifact_location"),
)
"""The columns with addresses of artifacts."""


def relocate() -> tuple[Path, int]:
    """Point the addresses in mlflow.db to the mlruns/ beside it, in one transaction.

    Return that folder, and how many addresses were changed.
    """
    where = locate()
    if where.database is None or where.artifacts is None:
        raise UserError(f"{where.uri} manages its own addresses; `relocate` is for an mlflow.db in this folder.")
    for path in (where.database, where.artifacts):
        if not path.exists():
            raise UserError(f"{path}: does not exist. Run this in the root of the repository.")
    try:
        with closing(sqlite3.connect(where.database, timeout=10)) as connection, connection:
            return where.artifacts, _relocate(connection, where.artifacts.as_uri())
    except sqlite3.Error as error:
        raise UserError(f"{where.database}: cannot be changed ({error}). Is an MLflow server using it?") from None


def _relocate(connection: sqlite3.Connection, new: str) -> int:
    """Replace the folder that the experiments are in."""
    folder, changed = f"/{new.rpartition('/')[2]}/", 0
    places = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    for old in {place.rpartition(folder)[0] + folder for (place,) in places if folder in place} - {f"{new}/"}:
        for table, column in _COLUMNS:
            update = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
            changed += connection.execute(update, (f"{new}/", len(old) + 1, len(old), old)).rowcount
    return changed
