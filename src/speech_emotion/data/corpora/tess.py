"""TESS: find or download its 2,800 recordings and check them against their SHA-256.

Toronto emotional speech set (Pichora-Fuller and Dupuis, 2020), https://doi.org/10.5683/SP2/E8H2MF, CC BY-NC-ND 4.0.

Copies differ in folders, in upper and lower case and in duplicates, and some contain a recording under another one's
name. A recording is therefore identified by its content: `tess_sha256.txt` beside this file (for `sha256sum --check`)
lists the originals, each with the name it gets here.
"""

import hashlib
import os
import re
import shutil
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_json, replacing_folder, walk_files, write_text
from speech_emotion.core.process import SCRATCH, alone
from speech_emotion.core.progress import track
from speech_emotion.data.archive import Entry, check_space, file_entry, walk
from speech_emotion.data.corpora.base import Utterance
from speech_emotion.data.download import Downloader, RemoteFile, UnreachableError, list_dataverse

VARIABLE: Final = "TESS_DIR"
"""The environment variable that may name a copy."""

DEFAULT_SOURCE: Final = Path("data/incoming")
"""The one place that may be absent or empty: nobody has named it. params.yaml comes with it, and a clone has it."""

SPEAKERS: Final[Mapping[str, str]] = MappingProxyType({"OAF": "OAF", "OA": "OAF", "YAF": "YAF"})
"""What a name begins with, and whose recording it is; one name in the original lacks its F."""

EMOTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "angry": "angry",
        "disgust": "disgust",
        "fear": "fear",
        "happy": "happy",
        "neutral": "neutral",
        "ps": "pleasant_surprise",
        "sad": "sad",
    }
)
"""What a name ends with, and its label."""

_NAME: Final = re.compile(rf"({'|'.join(SPEAKERS)})_([a-z]+)_({'|'.join(EMOTIONS)})\.wav")
_AUDIO_SUFFIXES: Final = frozenset({".aif", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".wav"})
_LARGEST_RECORDING: Final = 8 << 20
_SHOWN: Final = 20


class TessCorpus:
    """The Toronto emotional speech set.

    Parameters
    ----------
    settings : CorpusSettings
        Its `source` may be a zip, or a folder with recordings or zips in it. Where it is `data/incoming` and there are
        none, the environment variable `TESS_DIR` may name one, and else the official server is asked.
    download : DownloadSettings or None
        The official server; None where nothing is fetched.
    checksums : mapping of str to str
        Path in the raw tree to SHA-256 (hex) of each recording; the original's, unless told otherwise.
    """

    kind: Final = "tess"

    def __init__(
        self,
        settings: CorpusSettings,
        download: DownloadSettings | None = None,
        *,
        checksums: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.download = download
        self.checksums = read_checksums() if checksums is None else checksums

    def fetch(self, raw: Path) -> None:
        """Fill the folder `raw` with the recordings, byte for byte: all of them, or none.

        Raises
        ------
        UserError
            There is no copy and no server, or a recording is missing or altered: each is named.
        """
        source = find_copy(self.settings)
        if source is None:
            self._fetch_from_server(raw)
            return
        _check_apart(source, raw)
        print(f"TESS: reading {source}")
        self._fill(raw, walk(source), str(source), "Get a whole copy, or take this one away to have it downloaded.")

    def utterances(self, raw: Path) -> list[Utterance]:
        """Return what `fetch` has left in `raw`, ordered by path.

        Raises
        ------
        UserError
            A recording is missing from `raw`, or something else lies there.
        """
        found = {path.relative_to(raw).as_posix() for path in walk_files(raw)}
        lists = {"missing": sorted(self.checksums.keys() - found), "not of TESS": sorted(found - self.checksums.keys())}
        if any(lists.values()):
            headline = f"{raw}: is not as the stage `download` left it. Run `dvc repro download`."
            raise UserError("\n".join([headline, *_listed(lists, _SHOWN)]))
        return [parse_name(path) for path in sorted(found)]

    def _fetch_from_server(self, raw: Path) -> None:
        if self.download is None:
            raise ValueError("to fetch, the settings of the server are needed")
        server, dataset = self.download.server, self.download.persistent_id
        digest = digest_json({"server": server, "persistent_id": dataset})
        with alone(f"download/{digest[:16]}") as scratch, Downloader(self.download) as downloader:
            kept = scratch / "files"
            kept.mkdir(exist_ok=True)
            try:
                files = [file for file in list_dataverse(downloader, server, dataset) if _may_be_recording(file)]
            except UnreachableError as error:
                raise UserError(_ways_on(self.settings, str(error))) from None
            size = sum(file.size or 0 for file in files)
            check_space(2 * size - sum(path.stat().st_size for path in kept.iterdir()), kept)
            print(f"TESS: downloading {len(files):,} files, {size / 1e6:,.0f} MB, from {server}", flush=True)
            for _ in track(downloader.fetch(files, kept), len(files), "downloading", "files"):
                pass
            files.sort(key=lambda file: (file.name, file.url))
            entries = (file_entry(file.name, kept / file.key) for file in files)
            advice = "The server holds another version than this software knows: use a copy of the original."
            self._fill(raw, entries, server, advice)
            shutil.rmtree(kept)

    def _fill(self, raw: Path, entries: Iterable[Entry], source: str, advice: str) -> None:
        with replacing_folder(raw) as aside:
            census = take_census(entries, self.checksums, keep=lambda path, content: _write(aside / path, content))
            if not census.is_whole:
                raise UserError(f"{_report(census, source, len(self.checksums))}\n{advice}")
        print(f"TESS: {len(self.checksums):,} recordings, each with its original SHA-256")
        if census.renamed or census.surplus:
            print(_report(census, source, len(self.checksums)), file=sys.stderr)


@dataclass(frozen=True)
class Census:
    """What a copy holds, measured by a list of checksums.

    Attributes
    ----------
    found : int
        How many recordings of the list are there.
    missing : tuple of str
        Recordings (their names in the list) that are nowhere in the copy, and of which it has no file of that name.
    altered : tuple of str
        Recordings that are nowhere in the copy, though a file of that name is: that file, and what it holds.
    renamed : tuple of str
        Files that hold a recording which is there under no other name: that file, and which recording it is.
    surplus : tuple of str
        Audio files that are no recording of the list, or one that is there under its own name, under another's name.
    """

    found: int
    missing: tuple[str, ...]
    altered: tuple[str, ...]
    renamed: tuple[str, ...]
    surplus: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every recording is there, under whatever name."""
        return not self.missing and not self.altered


def take_census(
    entries: Iterable[Entry], checksums: Mapping[str, str], *, keep: Callable[[str, bytes], None]
) -> Census:
    """Look at every file of a copy and find the recordings among them by their content.

    Parameters
    ----------
    entries : iterable of Entry
        The files of the copy.
    checksums : mapping of str to str
        Path in the raw tree to SHA-256 (hex).
    keep : callable
        Called once for each recording, with its path in the raw tree and its content.

    Raises
    ------
    UserError
        A file cannot be read.
    """
    paths = {digest: path for path, digest in checksums.items()}
    places: dict[str, list[str]] = defaultdict(list)
    strangers: list[str] = []

    def recordings() -> Iterator[str]:
        for entry in entries:
            content = entry.read() if entry.size <= _LARGEST_RECORDING else b""
            path = paths.get(hashlib.sha256(content).hexdigest())
            if path is None:
                strangers.append(entry.name)
                continue
            places[path].append(entry.name)
            if len(places[path]) == 1:
                keep(path, content)
                yield path

    for _ in track(recordings(), len(checksums), "checking", "recordings"):
        pass
    return _judge(checksums, places, strangers)


def find_copy(settings: CorpusSettings, root: Path = Path()) -> Path | None:
    """Return the folder or zip that the user has named, as `corpus.source` or else as `TESS_DIR`; or None.

    Parameters
    ----------
    settings : CorpusSettings
        Where its `source` is `data/incoming`, that may be absent, or hold no recordings.
    root : Path
        The root of the repository, which `corpus.source` is relative to.

    Raises
    ------
    UserError
        What is named is not there, is neither folder nor zip, or holds nothing.
    """
    source = root / Path(settings.source).expanduser()
    is_default = source.resolve() == (root / DEFAULT_SOURCE).resolve()
    if (source.exists() or not is_default) and _holds_recordings(source, "corpus.source in params.yaml"):
        return source
    if not is_default:
        raise UserError(
            f"{source}: holds neither recordings nor a zip. Put your copy of TESS there, or change corpus.source in "
            f"params.yaml: while it is {DEFAULT_SOURCE}, and that is empty, {VARIABLE} or the official server is asked."
        )
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    copy = Path(named).expanduser()
    if not _holds_recordings(copy, VARIABLE):
        raise UserError(
            f"{copy}: holds neither recordings nor a zip. Name your copy of TESS in {VARIABLE}, or unset it."
        )
    return copy


def parse_name(path: str) -> Utterance:
    """Return what the name of a recording says, such as ``OAF_fear/OAF_food_fear.wav``.

    Parameters
    ----------
    path : str
        Relative to the raw tree.

    Raises
    ------
    UserError
        It is not a name of TESS's.
    """
    match = _NAME.fullmatch(PurePosixPath(path).name)
    if match is None:
        raise UserError(f"{path}: is not named as TESS names its recordings, such as OAF_food_fear.wav.")
    speaker, word, emotion = match.groups()
    return Utterance(path=Path(path), speaker=SPEAKERS[speaker], emotion=EMOTIONS[emotion], text=f"Say the word {word}")


def read_checksums() -> dict[str, str]:
    """Return the path in the raw tree and the SHA-256 (hex) of each of the 2,800 originals."""
    text = (resources.files(__package__) / "tess_sha256.txt").read_text(encoding="ascii")
    return {path: digest for digest, path in (line.split("  ", 1) for line in text.splitlines())}


def _judge(checksums: Mapping[str, str], places: Mapping[str, list[str]], strangers: list[str]) -> Census:
    paths = {_plain(path): path for path in checksums}
    lost = checksums.keys() - places.keys()
    altered: dict[str, str] = {}
    surplus = []
    for name in strangers:
        path = paths.get(_plain(name))
        if path in lost:
            altered[path] = f"{name}: its content is not the original's"
        elif PurePosixPath(name).suffix.lower() in _AUDIO_SUFFIXES:
            surplus.append(name)
    renamed = []
    for path, names in places.items():
        is_renamed = _plain(path) not in map(_plain, names)
        if is_renamed:
            renamed.append(f"{names[0]}: is {path}")
        for name in names:
            owner = paths.get(_plain(name), path)
            if owner in lost:
                altered[owner] = f"{name}: holds {path}"
            elif owner != path and not is_renamed:
                surplus.append(f"{name}: holds {path} once more")
    return Census(
        found=len(places),
        missing=tuple(sorted(lost - altered.keys())),
        altered=tuple(sorted(altered.values())),
        renamed=tuple(sorted(renamed)),
        surplus=tuple(sorted(surplus)),
    )


def _plain(name: str) -> str:
    """Return the part of a name on which copies agree."""
    return PurePosixPath(name).name.casefold()


def _report(census: Census, source: str, total: int) -> str:
    """Return what is wrong with a copy, every file by name; of long lists the beginning, and where the rest is."""
    verdict = "a whole copy of TESS" if census.is_whole else "not a whole copy of TESS"
    headline = f"{source}: {verdict}: {census.found:,} of {total:,} recordings are there and unchanged."
    lists = {
        "missing": census.missing,
        "altered": census.altered,
        "under another name": census.renamed,
        "surplus, left out": census.surplus,
    }
    if all(len(names) <= _SHOWN for names in lists.values()):
        return "\n".join([headline, *_listed(lists)])
    full = SCRATCH / "download" / "report.txt"
    write_text(full, "\n".join([headline, *_listed(lists)]) + "\n")
    return "\n".join([headline, *_listed(lists, _SHOWN), f"All names: {full}"])


def _listed(lists: Mapping[str, Sequence[str]], shown: int | None = None) -> list[str]:
    lines = []
    for title, names in lists.items():
        if names:
            lines += [f"{title} ({len(names):,}):", *(f"  {name}" for name in names[:shown])]
            lines += [f"  and {len(names) - shown:,} more"] if shown and len(names) > shown else []
    return lines


def _holds_recordings(source: Path, setting: str) -> bool:
    if source.is_dir():
        suffixes = {path.suffix.lower() for path in walk_files(source)}
        return not suffixes.isdisjoint(_AUDIO_SUFFIXES | {".zip"})
    if not source.exists():
        raise UserError(f"{source}: there is no such folder or zip. Put it there, or change {setting}.")
    if not source.is_file() or not zipfile.is_zipfile(source):
        raise UserError(f"{source}: is neither a folder nor a whole zip. Get it again, or change {setting}.")
    return True


def _check_apart(source: Path, raw: Path) -> None:
    source, raw = source.resolve(), raw.resolve()
    if raw.is_relative_to(source) or source.is_relative_to(raw):
        raise UserError(
            f"{source}: the recordings would be written to {raw}, around or within it. Move your copy away."
        )


def _ways_on(settings: CorpusSettings, reason: str) -> str:
    return f"""TESS is not on this machine, and {reason}. Four ways on:
  a folder: put your copy of TESS into {settings.source}, or name it in {VARIABLE} or as corpus.source in params.yaml
  a zip: the same, with a zip of it, such as Kaggle's, which need not be unpacked
  online: connect this machine, and start again; the recordings (about 290 MB) are downloaded
  `make demo`: the whole pipeline on a synthetic corpus, offline"""


def _may_be_recording(file: RemoteFile) -> bool:
    return PurePosixPath(file.name).suffix.lower() in _AUDIO_SUFFIXES or file.content_type.startswith("audio/")


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
