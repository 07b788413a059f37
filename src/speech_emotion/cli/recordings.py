"""Find recordings in files and folders, and list those that cannot be used."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from speech_emotion.audio.decode import SUFFIXES
from speech_emotion.core.io import walk_files

if TYPE_CHECKING:
    from speech_emotion.inference.batch import BatchRow


def search(places: Iterable[Path]) -> "tuple[list[Path], list[BatchRow]]":
    """Return the recordings of files and folders, in order, and the folders without any.

    A folder is searched recursively for the suffixes of recordings, hidden names left out; raises a UserError if one
    cannot be read.
    """
    from speech_emotion.inference.batch import BatchRow

    found: list[Path] = []
    bad = []
    for place in places:
        inside = [place]
        if place.is_dir():
            inside = [path for path in walk_files(place) if path.suffix.lower() in SUFFIXES]
        found += inside
        if not inside:
            bad.append(BatchRow(str(place), f"holds no recordings ({' '.join(sorted(SUFFIXES))})"))
    return found, bad


def report(bad: "Sequence[BatchRow]", recordings: int) -> None:
    """Print unusable recordings to standard error and exit with status 1, if there are any."""
    if not bad:
        return
    typer.echo(f"{len(bad)} of {recordings} recordings could not be used:", err=True)
    for one in bad:
        typer.echo(f"  {one.path}: {one.reason}", err=True)
    raise typer.Exit(1)
