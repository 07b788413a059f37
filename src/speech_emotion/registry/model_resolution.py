"""Resolve the model that the user names: a package, a registered version, the champion, or the built-in one.

A server downloads a version with this module as a process of its own, which can be ended at any time.
"""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speech_emotion.config.base import PARAMS, read_params, read_section
from speech_emotion.config.data import CorpusSettings
from speech_emotion.core.errors import UserError
from speech_emotion.registry.versions import CHAMPION, cache, fetch, find, parse, uri
from speech_emotion.tracking.connection import home, locate, model_name, session

if TYPE_CHECKING:
    from speech_emotion.inference.recognizer import Recognizer

PRETRAINED: Final = Path(__file__).parent.parent / "pretrained"
"""The built-in package."""

FETCH_SECONDS: Final = 300.0
"""The longest time that a server waits for a download."""


def load(source: str | Path | None = None, *, threads: int = 1) -> "Recognizer":
    """Load a model.

    Parameters
    ----------
    source : str or Path, optional
        The folder of a package, or a version in the MLflow registry (`models:/speech-emotion-tess@challenger`,
        `models:/speech-emotion-tess/3`). None: the built-in package.
    threads : int
        See `Recognizer`.

    Raises
    ------
    UserError
        There is no such model, or it is damaged.

    Examples
    --------
    >>> import speech_emotion
    >>> recognizer = speech_emotion.load()  # doctest: +SKIP
    >>> recognizer.predict("clip.wav").label  # doctest: +SKIP
    'happy'
    """
    from speech_emotion.inference.recognizer import Recognizer

    return Recognizer.load(folder_of(source), threads=threads)


def folder_of(source: str | Path | None) -> Path:
    """Return the folder of the package that `source` names; a registered version is downloaded."""
    if source is None:
        return PRETRAINED
    # a Path would collapse the slashes of a URI
    if isinstance(source, str) and source.startswith("models:"):
        return fetch(source)[1]
    return Path(source)


@dataclass(frozen=True)
class Choice:
    """A model that was chosen, loaded.

    `words` says which one it is ("the champion of speech-emotion-tess, version 3"); `versions` has `model`,
    `model_version` and `package_digest`, as `response.row` takes them.
    """

    recognizer: "Recognizer"
    words: str
    versions: dict[str, str]


def choose(source: str | None) -> Choice:
    """Load a package or a registered version; without a name, the workspace's champion, else the built-in model."""
    words = source or "the built-in model"
    if source is None and (champion := _champion()) is not None:
        source, words = champion, f"the champion of {parse(champion)['name']}"
    if source is None or not source.startswith("models:"):
        recognizer = load(source)
        found = {"model": "", "model_version": "", "package_digest": recognizer.package.digest}
        return Choice(recognizer, words, found)
    version, folder = fetch(source)
    found = {"model": version.name, "model_version": str(version.number), "package_digest": version.package_digest}
    return Choice(load(folder), f"{words}, version {version.number}", found)


def _champion() -> str | None:
    """Return the URI of the workspace's champion, or None."""
    path = home() / PARAMS
    # other projects have a params.yaml too
    if not path.is_file() or "corpus" not in read_params(path):
        return None
    champion = uri(model_name(read_section("corpus", CorpusSettings, path).name), CHAMPION)
    return None if glance(champion) is None else champion


@dataclass(frozen=True)
class Model:
    """A model to load: the folder of its package (None: the built-in one), and its name and version if registered."""

    folder: Path | None
    name: str = ""
    version: str = ""
    digest: str = ""


async def model_of(source: str | None) -> Model:
    """Return the model that a folder, a registry URI or None names; cancelling this ends its download."""
    if source is None or not source.startswith("models:"):
        return Model(None if source is None else Path(source))
    parse(source)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "speech_emotion.registry.model_resolution", source),
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
