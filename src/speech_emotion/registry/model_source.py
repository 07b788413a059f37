"""Follow what an alias names, for a server that answers while it watches for a new champion.

A package that is not in the cache yet is downloaded by a process of its own, which can be ended at any time.
"""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from speech_emotion.core.errors import UserError
from speech_emotion.registry.versions import cache, fetch, find, parse
from speech_emotion.tracking.connection import locate, session

FETCH_SECONDS: Final = 300.0
"""The longest time that a download may take."""


@dataclass(frozen=True)
class Model:
    """A model to load: the folder of its package (None: the built-in one), and its name and version if registered."""

    folder: Path | None
    name: str = ""
    version: str = ""
    digest: str = ""


async def model_of(source: str | None) -> Model:
    """Return the model that a folder, a registry URI or None (the built-in model) names, and download it if needed.

    Cancelling this ends the download.

    Raises
    ------
    UserError
        There is no such version, or it cannot be downloaded.
    """
    if source is None or not source.startswith("models:"):
        return Model(None if source is None else Path(source))
    parse(source)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "speech_emotion.registry.model_source", source),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), FETCH_SECONDS)
    except TimeoutError:
        raise UserError(f"{source}: MLflow did not deliver it within {FETCH_SECONDS:g} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise UserError(lines[-1].removeprefix("error: ") if lines else f"{source}: cannot be downloaded.")
    folder, name, version = json.loads(output.splitlines()[-1])
    return Model(Path(folder), name, version, Path(folder).name)


def may_change(source: str) -> bool:
    """Return whether a source can name another model tomorrow, as an alias can."""
    return source.startswith("models:") and parse(source)["alias"] is not None


def glance(source: str) -> Model | None:
    """Return the version that a URI names now, without downloading it; None if that cannot be found out."""
    match = parse(source)
    try:
        if locate().is_missing:
            return None
        with session("") as client:
            found = find(client, match["name"], match["alias"] or match["number"])
    except (UserError, ModuleNotFoundError):
        return None
    return Model(cache() / found.package_digest, found.name, str(found.number), found.package_digest)


def main() -> None:
    """Download the version that the command line names and print its folder, name and number as JSON."""
    try:
        version, folder = fetch(sys.argv[1])
    except UserError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"error: {sys.argv[1]}: a registered model needs the package '{error.name}': pip install mlflow")
    print(json.dumps([str(folder), version.name, str(version.number)]))


if __name__ == "__main__":
    main()
