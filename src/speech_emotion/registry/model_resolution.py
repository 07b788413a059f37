"""Takes what the user named, or nothing; gives the recogniser that answers, and which model it is, in words.

Without a name it is the champion of the workspace's registry, else the package that comes with the software.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speech_emotion.config.base import PARAMS, read_params, read_section
from speech_emotion.config.data import CorpusSettings
from speech_emotion.inference.recognizer import Recognizer

if TYPE_CHECKING:
    from speech_emotion.registry.model_source import Model

PRETRAINED: Final = Path(__file__).parent.parent / "pretrained"
"""The package that comes with the software."""


def load(source: str | Path | None = None, *, threads: int = 1) -> Recognizer:
    """Load a model.

    Parameters
    ----------
    source : str or Path, optional
        A package's folder, or a version in the MLflow registry (`models:/speech-emotion-tess@challenger`,
        `models:/speech-emotion-tess/3`). None: the package that comes with the software.
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
    """Return the folder of the package that `source` names; a version in the registry is fetched."""
    if source is None:
        return PRETRAINED
    # pathlib would make one slash of two, so a URI is looked at as the text that it is
    if isinstance(source, str) and source.startswith("models:"):
        from speech_emotion.registry.versions import resolve

        return resolve(source)
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
        A package's folder, or a URI of the registry. None: the workspace's champion, where there is one that a light
        read of the registry finds (MLflow itself is imported only to fetch a package for the first time), else the
        package that comes with the software.

    Raises
    ------
    UserError
        There is no such model, or it is damaged.
    """
    from speech_emotion.registry.model_source import Model

    model, words = _champion() if source is None else (_found(source), source)
    if model is None:
        model, words = Model(None), "the one that comes with the software"
    recognizer = load(model.folder)
    digest = model.digest or recognizer.package.digest
    versions = {"model": model.name, "model_version": model.version, "package_digest": digest}
    if model.version:
        words = f"{words}, version {model.version}"
    return Choice(recognizer, words, versions)


def _found(source: str) -> "Model":
    from speech_emotion.registry.model_source import model_of

    return asyncio.run(model_of(source))


def _champion() -> "tuple[Model | None, str]":
    from speech_emotion.registry.model_source import glance
    from speech_emotion.registry.versions import CHAMPION, uri
    from speech_emotion.tracking.mlflow_run import home, model_name

    path = home() / PARAMS
    # other projects have a params.yaml too
    if not path.is_file() or "corpus" not in read_params(path):
        return None, ""
    name = model_name(read_section("corpus", CorpusSettings, path).name)
    champion = uri(name, CHAMPION)
    return (_found(champion) if glance(champion) is not None else None), f"the champion of {name}"
