"""Takes what the user named, or nothing; gives the recogniser that answers, and which model it is, in words.

Without a name it is the champion of the workspace's registry, else the package that comes with the software.
"""

import asyncio
from dataclasses import dataclass

from speech_emotion.inference import Recognizer
from speech_emotion.loading import load
from speech_emotion.registry import CHAMPION, uri
from speech_emotion.serving.source import Model, glance, model_of
from speech_emotion.settings.base import PARAMS, read_params, read_section
from speech_emotion.settings.corpus import CorpusSettings
from speech_emotion.tracking import home, model_name


@dataclass(frozen=True)
class Choice:
    """A model that was chosen.

    Attributes
    ----------
    recognizer : Recognizer
    words : str
        Which model it is, for a person: "champion of speech-emotion-tess, version 3".
    versions : dict of str to str
        `model`, `model_version` and `package_digest`, as `answering.row` takes them.
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
    model, words = _champion() if source is None else (_found(source), source)
    if model is None:
        model, words = Model(None), "the one that comes with the software"
    recognizer = load(model.folder)
    digest = model.digest or recognizer.package.digest
    versions = {"model": model.name, "model_version": model.version, "package_digest": digest}
    if model.version:
        words = f"{words}, version {model.version}"
    return Choice(recognizer, words, versions)


def _found(source: str) -> Model:
    return asyncio.run(model_of(source))


def _champion() -> tuple[Model | None, str]:
    path = home() / PARAMS
    # other projects have a params.yaml too
    if not path.is_file() or "corpus" not in read_params(path):
        return None, ""
    name = model_name(read_section("corpus", CorpusSettings, path).name)
    champion = uri(name, CHAMPION)
    return (_found(champion) if glance(champion) is not None else None), f"the champion of {name}"
