"""Takes what names a model; gives the folder to load and whether there is a newer one, mostly without importing MLflow.

MLflow takes seconds to import and memory for good. Which version an alias is on can be read from its database or its
REST interface at once; only a package that is not in the cache yet is fetched by MLflow, in a process that then ends.
"""

import asyncio
import base64
import json
import os
import re
import sqlite3
import sys
import urllib.parse
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from speech_emotion.core.errors import UserError
from speech_emotion.registry.versions import PACKAGE_DIGEST, cache, parse
from speech_emotion.tracking.mlflow_run import place

LIGHT_SECONDS: Final = 5.0
"""That a light read may wait for a server or a locked database."""

FETCH_SECONDS: Final = 300.0
"""That MLflow may take to fetch a package."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Model:
    """A model to load.

    Attributes
    ----------
    folder : Path or None
        The package; None: the one that comes with the software.
    name, version : str
        In the registry; empty for a folder.
    digest : str
        The package's; empty: nobody has asked yet.
    """

    folder: Path | None
    name: str = ""
    version: str = ""
    digest: str = ""


async def model_of(source: str | None) -> Model:
    """Return the model that a folder, a URI of the registry, or None (the one that comes with the software) names.

    Whoever cancels this ends MLflow with it, if MLflow had to be asked.

    Raises
    ------
    UserError
        There is no such version, or it cannot be fetched.
    """
    if source is None or not source.startswith("models:"):
        return Model(None if source is None else Path(source))
    seen = await asyncio.to_thread(glance, source)
    return seen if seen is not None and seen.folder is not None and seen.folder.is_dir() else await _fetched(source)


def may_change(source: str) -> bool:
    """Tell whether what names a model can mean another one tomorrow: an alias can."""
    return source.startswith("models:") and parse(source)["alias"] is not None


def glance(source: str) -> Model | None:
    """Return which version a URI names now, and where its package would lie in the cache; None: a light read fails."""
    match = parse(source)
    registry = os.environ.get("MLFLOW_REGISTRY_URI") or place().uri
    asked = (match["name"], match["alias"], match["number"])
    try:
        if registry.startswith("sqlite:///"):
            found = _from_database(Path(registry.removeprefix("sqlite:///")), *asked)
        elif registry.startswith(("http://", "https://")):
            found = _from_server(registry.rstrip("/"), *asked)
        else:
            return None
    except (OSError, ValueError, LookupError, TypeError, sqlite3.Error):
        return None
    if found is None or not _DIGEST.fullmatch(found[1]):
        return None
    return Model(cache() / found[1], match["name"], *found)


def _from_database(path: Path, name: str, alias: str | None, number: str | None) -> tuple[str, str] | None:
    """Return version and digest, as MLflow's tables have them."""
    address = f"file:{urllib.parse.quote(str(path))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=LIGHT_SECONDS)) as database:
        if alias is not None:
            query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
            rows = database.execute(query, (name, alias)).fetchall()
            if len(rows) != 1:  # none, or a database of several workspaces
                return None
            number = str(rows[0][0])
        query = "SELECT value FROM model_version_tags WHERE name = ? AND version = ? AND key = ?"
        tags = database.execute(query, (name, int(number or 0), PACKAGE_DIGEST)).fetchall()
    return (str(number), str(tags[0][0])) if len(tags) == 1 else None


def _from_server(uri: str, name: str, alias: str | None, number: str | None) -> tuple[str, str]:
    """Return version and digest, as MLflow's server tells them."""
    if alias is not None:
        place, query = "registered-models/alias", {"name": name, "alias": alias}
    else:
        place, query = "model-versions/get", {"name": name, "version": str(number)}
    request = urllib.request.Request(
        f"{uri}/api/2.0/mlflow/{place}?{urllib.parse.urlencode(query)}", headers=_credentials()
    )
    with urllib.request.urlopen(request, timeout=LIGHT_SECONDS) as response:
        version: dict[str, Any] = json.load(response)["model_version"]
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    return str(version["version"]), str(tags[PACKAGE_DIGEST])


def _credentials() -> dict[str, str]:
    """Return the header that MLflow's own client would send."""
    token, user = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
    if user:
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"} if token else {}


async def _fetched(source: str) -> Model:
    """Have MLflow fetch a version, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "speech_emotion.registry.fetch", source),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), FETCH_SECONDS)
    except TimeoutError:
        raise UserError(f"{source}: MLflow did not give it within {FETCH_SECONDS:g} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise UserError(lines[-1].removeprefix("error: ") if lines else f"{source}: cannot be fetched.")
    told = json.loads(output.splitlines()[-1])
    return Model(Path(told["folder"]), told["name"], told["version"], told["digest"])
