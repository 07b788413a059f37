"""Load the model that the user names; without a name, the workspace's champion or the built-in model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from speech_emotion.config.base import PARAMS, read_params, read_section
from speech_emotion.config.data import CorpusSettings
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.tracking.connection import home, model_name

PRETRAINED: Final = Path(__file__).parent.parent / "pretrained"
"""The built-in package."""


def load(source: str | Path | None = None, *, threads: int = 1) -> Recognizer:
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
    return Recognizer.load(folder_of(source), threads=threads)


def folder_of(source: str | Path | None) -> Path:
    """Return the folder of the package that `source` names; a registered version is downloaded."""
    if source is None:
        return PRETRAINED
    # a Path would collapse the slashes of a URI
    if isinstance(source, str) and source.startswith("models:"):
        from speech_emotion.registry.versions import fetch

        return fetch(source)[1]
    return Path(source)


@dataclass(frozen=True)
class Choice:
    """A model that was chosen.

    Attributes
    ----------
    recognizer : Recognizer
    words : str
        Which model it is, for a person: "champion of speech-emotion-tess, version 3".
    versions : dict of str to str
        `model`, `model_version` and `package_digest`, as `response.row` takes them.
    """

    recognizer: Recognizer
    words: str
    versions: dict[str, str]


def choose(source: str | None) -> Choice:
    """Choose a model and load it.

    Parameters
    ----------
    source : str or None
        The folder of a package, or a registry URI. None: the workspace's champion if MLflow knows one, else the
        built-in package.

    Raises
    ------
    UserError
        There is no such model, or it is damaged.
    """
    words = source or "the built-in model"
    if source is None and (champion := _champion()) is not None:
        source, name = champion
        words = f"the champion of {name}"
    if source is None or not source.startswith("models:"):
        recognizer = load(source)
        found = {"model": "", "model_version": "", "package_digest": recognizer.package.digest}
        return Choice(recognizer, words, found)
    from speech_emotion.registry.versions import fetch

    version, folder = fetch(source)
    found = {"model": version.name, "model_version": str(version.number), "package_digest": version.package_digest}
    return Choice(load(folder), f"{words}, version {version.number}", found)


def _champion() -> tuple[str, str] | None:
    """Return the champion's URI and the registered model's name; None if the workspace has no champion."""
    from speech_emotion.registry.model_source import glance
    from speech_emotion.registry.versions import CHAMPION, uri

    path = home() / PARAMS
    # other projects have a params.yaml too
    if not path.is_file() or "corpus" not in read_params(path):
        return None
    name = model_name(read_section("corpus", CorpusSettings, path).name)
    champion = uri(name, CHAMPION)
    return None if glance(champion) is None else (champion, name)
