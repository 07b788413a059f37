"""Find recordings in files and folders, and predict each or say why not."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speech_emotion.audio.decode import SUFFIXES, AudioError
from speech_emotion.core.io import walk_files

if TYPE_CHECKING:
    import numpy as np

    from speech_emotion.inference.recognizer import Recognizer

CHUNK = 64
"""Recordings predicted together; this bounds the memory for a folder of any size."""


@dataclass(frozen=True)
class Bad:
    """A recording that cannot be used, and the reason."""

    path: Path
    reason: str


def search(places: Iterable[Path]) -> tuple[list[Path], list[Bad]]:
    """Return the recordings of files and folders, in order, and the folders without any.

    A folder is searched recursively for the suffixes of recordings, hidden names left out.

    Raises
    ------
    UserError
        A folder cannot be read.
    """
    found: list[Path] = []
    bad: list[Bad] = []
    for place in places:
        inside = _recordings_below(place) if place.is_dir() else [place]
        found += inside
        if not inside:
            bad.append(Bad(place, f"holds no recordings ({' '.join(sorted(SUFFIXES))})"))
    return found, bad


def answer(
    recognizer: "Recognizer", recordings: Iterable[Path], bad: list[Bad]
) -> "Iterator[tuple[list[Path], np.ndarray]]":
    """Yield recordings and their probabilities [shape=(n, labels)], a chunk at a time; append others to `bad`."""
    paths: list[Path] = []
    frames: list[np.ndarray] = []
    for path in recordings:
        try:
            frames.append(recognizer.frames(path))
            paths.append(path)
        except AudioError as error:
            bad.append(Bad(path, str(error)))
        if len(frames) == CHUNK:
            yield paths, recognizer.predict_frames(frames)
            paths, frames = [], []
    if frames:
        yield paths, recognizer.predict_frames(frames)


def report(bad: Sequence[Bad], recordings: int) -> None:
    """Print unusable recordings to standard error and exit with status 1, if there are any."""
    import typer

    if not bad:
        return
    typer.echo(f"{len(bad)} of {recordings} recordings could not be used:", err=True)
    for one in bad:
        typer.echo(f"  {one.path}: {one.reason}", err=True)
    raise typer.Exit(1)


def _recordings_below(folder: Path) -> list[Path]:
    return [path for path in walk_files(folder) if path.suffix.lower() in SUFFIXES]
