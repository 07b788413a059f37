"""Takes what a workspace holds and MLflow's database, a file; gives whether both are as they last were in sync.

To ask MLflow takes seconds, nearly all of them its imports, and most calls of `publish` find nothing to do.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from speech_emotion.files import replacing
from speech_emotion.tracking import Place


@dataclass(frozen=True)
class Synced:
    """What was so when a workspace and MLflow were last in sync.

    Attributes
    ----------
    content : str
        The digest of all that is published of the workspace.
    journals : dict of str to str
        Digests of what was noted while MLflow was away, or a training at work, by file.
    version : int or None
        The version that its package is; None: it has none.
    files : dict of str to int
        The version's files, with their sizes in bytes.
    """

    content: str
    journals: dict[str, str]
    version: int | None
    files: dict[str, int]


def recall(path: Path, where: Place, content: str, journals: dict[str, str]) -> Synced | None:
    """Return what was so, if it still is; None: MLflow has to be asked.

    Parameters
    ----------
    path : Path
        Where `remember` wrote.
    where : Place
    content : str
        The digest of what is to be published now.
    journals : dict of str to str
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        synced = Synced(**written["synced"])
        database = written["database"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    holds = (
        (synced.content, synced.journals) == (content, journals)
        and database == _state(where)
        and synced.files == sizes(map(Path, synced.files))
    )
    return synced if holds else None


def remember(path: Path, where: Place, synced: Synced) -> None:
    """Write down what is so, where MLflow's database is a file; elsewhere others change it unseen."""
    state = _state(where)
    if state is None:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as aside:
        aside.write_text(json.dumps({"synced": asdict(synced), "database": state}), encoding="utf-8")


def sizes(files: Iterable[Path]) -> dict[str, int]:
    """Return the sizes of those files that are there, by their paths."""
    return {str(file): file.stat().st_size for file in files if file.is_file()}


def _state(where: Place) -> list[list[str | int]] | None:
    """Return what changes whenever SQLite writes: sizes, and times in ns, of the database and its log."""
    if not where.uri.startswith("sqlite:///") or os.environ.get("MLFLOW_REGISTRY_URI"):
        return None
    database = Path(where.uri.removeprefix("sqlite:///"))
    found = [file for file in (database, database.with_name(f"{database.name}-wal")) if file.exists()]
    if database not in found:
        return None
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in found]
