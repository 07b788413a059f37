"""A user's folder or zip of labelled recordings."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.core.errors import UserError, listing
from speech_emotion.core.io import open_regular_file, replacing_folder, require_regular_file
from speech_emotion.core.progress import track
from speech_emotion.data.archive import check_apart, unpack
from speech_emotion.data.corpora.base import Utterance
from speech_emotion.data.labels import TABLE, Labelled, is_recording, read_labelled, write_table


class FolderCorpus:
    """The user's own recordings, in any language and with any labels; see `labels.read_labelled`.

    `settings.source` is a folder or a zip.
    """

    kind: Final = "folder"

    def __init__(self, settings: CorpusSettings, download: DownloadSettings | None = None) -> None:
        self.source = Path(settings.source).expanduser()

    def fetch(self, raw: Path) -> None:
        """Copy the recordings to the folder `raw`, byte for byte, with their labels in one table; all or nothing."""
        if not self.source.exists():
            raise UserError(f"{self.source}: there is no such folder or zip. Set corpus.source in params.yaml.")
        check_apart(self.source, raw)
        with _opened(self.source, raw) as folder, replacing_folder(raw) as temporary:
            labelled = read_labelled(folder)
            labels = {one.emotion for one in labelled.utterances}
            if len(labels) < 2:
                raise UserError(f"{folder}: all recordings have one label, '{labels.pop()}' ({labelled.layout}).")
            _copy(labelled, temporary)
            write_table(temporary, labelled.utterances)
        print(f"{self.source}: {len(labelled.utterances):,} recordings, {labelled.layout}")
        if labelled.left_out:
            print(f"left out, not labelled recordings:\n{listing(labelled.left_out)}", file=sys.stderr)

    def utterances(self, raw: Path) -> list[Utterance]:
        """Return what `fetch` has copied, ordered by path; raise `UserError` if the tree is not complete."""
        if not (raw / TABLE).is_file():
            raise UserError(f"{raw}: has no {TABLE}. Run `dvc repro download`.")
        return list(read_labelled(raw).utterances)


@contextmanager
def _opened(source: Path, raw: Path) -> Iterator[Path]:
    """Give the folder with the recordings: the source, or the content of a zip that it is or holds alone."""
    archive = _lone_zip(source) if source.is_dir() else source
    if archive is None:
        yield source
        return
    require_regular_file(archive)
    raw.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{raw.name}.", suffix=".partial", dir=raw.parent) as unpacked:
        unpack(archive, Path(unpacked))
        yield Path(unpacked)


def _lone_zip(folder: Path) -> Path | None:
    """Return the zip at the top of a folder if it is the only one and only documents lie beside it."""
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    zips = [path for path in visible if path.suffix.lower() == ".zip"]
    others = [path for path in visible if path.is_dir() or path.suffix.lower() == ".csv" or is_recording(path)]
    return zips[0] if len(zips) == 1 and not others else None


def _copy(labelled: Labelled, target: Path) -> None:
    unreadable = []
    for one in track(labelled.utterances, len(labelled.utterances), "copying", "recordings"):
        recording = labelled.root / one.path
        try:
            source = open_regular_file(recording)
        except OSError as error:
            leads_nowhere = recording.is_symlink() and not recording.exists()
            unreadable.append(f"{one.path}: {'a link that leads nowhere' if leads_nowhere else error.strerror}")
            continue
        (target / one.path).parent.mkdir(parents=True, exist_ok=True)
        with source, open(target / one.path, "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    if unreadable:
        raise UserError(
            f"{labelled.root}: {len(unreadable)} of {len(labelled.utterances)} recordings cannot be read:\n"
            f"{listing(unreadable)}\nMake them readable, or remove them."
        )


CORPUS: Final = FolderCorpus
