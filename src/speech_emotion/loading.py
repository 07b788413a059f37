"""Takes what names a model, a folder or a version in the registry; gives it as a recogniser."""

from pathlib import Path
from typing import Final

from speech_emotion.inference import Recognizer

PRETRAINED: Final = Path(__file__).parent / "pretrained"
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
        from speech_emotion.registry import resolve

        return resolve(source)
    return Path(source)
