"""TESS: find or download its 2,800 recordings and check them against their SHA-256.

Toronto emotional speech set (Pichora-Fuller and Dupuis, 2020), https://doi.org/10.5683/SP2/E8H2MF, CC BY-NC-ND 4.0.

Copies differ in folders, upper and lower case and duplicates, and some have a recording under another one's name. A
recording is therefore identified by its content: `tess_sha256.txt` (for `sha256sum --check`) lists the originals, each
with its path in the raw tree.
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
"""The default of corpus.source. It may be absent or empty; a place that the user names may not."""

SPEAKERS: Final[Mapping[str, str]] = MappingProxyType({"OAF": "OAF", "OA": "OAF", "YAF": "YAF"})
"""Speaker by the beginning of a name; one original name lacks its F."""

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
"""Label by the end of a name."""

_NAME: Final = re.compile(rf"({'|'.join(SPEAKERS)})_([a-z]+)_({'|'.join(EMOTIONS)})\.wav")
_AUDIO_SUFFIXES: Final = frozenset({".aif", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".wav"})
_LARGEST_RECORDING: Final = 8 << 20
_SHOWN: Final = 20


class TessCorpus:
    """The Toronto emotional speech set.

    Parameters
    ----------
    settings : CorpusSettings
        Its `source` is a zip or a folder with recordings or zips. If it is the default and has none, the environment
        variable `TESS_DIR` may name a copy; otherwise the official server is used.
    download : DownloadSettings or None
        The official server; None if nothing is fetched.
    checksums : mapping of str to str
        SHA-256 (hex) by path in the raw tree; by default those of the originals.
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
        """Fill the folder `raw` with all recordings, byte for byte, or raise a `UserError` that names what is wrong."""
        source = find_copy(self.settings)
        if source is None:
            self._fetch_from_server(raw)
            return
        _check_apart(source, raw)
        print(f"TESS: reading {source}")
        self._fill(raw, walk(source), str(source), "Get a complete copy, or move this one away to download TESS.")

    def utterances(self, raw: Path) -> list[Utterance]:
        """Return the utterances in `raw`, ordered by path; raise `UserError` if it is not as `fetch` left it."""
        found = {path.relative_to(raw).as_posix() for path in walk_files(raw)}
        lists = {"missing": sorted(self.checksums.keys() - found), "not of TESS": sorted(found - self.checksums.keys())}
        if any(lists.values()):
            headline = f"{raw}: has changed since the stage `download`. Run `dvc repro download`."
            raise UserError("\n".join([headline, *_listed(lists, _SHOWN)]))
        return [parse_name(path) for path in sorted(found)]

    def _fetch_from_server(self, raw: Path) -> None:
        if self.download is None:
            raise ValueError("the settings of the server are needed")
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
            advice = "The server has another version than this software knows. Use a copy of the original."
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
    """What a copy contains, compared with a list of checksums.

    Attributes
    ----------
    found : int
        Recordings of the list that are there, under any name.
    missing : tuple of str
        Recordings that are not there, and no file of their name either.
    altered : tuple of str
        Files with the name of a recording that is not there, and what they contain.
    renamed : tuple of str
        Files with a recording that is there only under another name, and which one.
    surplus : tuple of str
        Other audio files, further copies under another recording's name included.
    """

    found: int
    missing: tuple[str, ...]
    altered: tuple[str, ...]
    renamed: tuple[str, ...]
    surplus: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every recording is there."""
        return not self.missing and not self.altered


def take_census(
    entries: Iterable[Entry], checksums: Mapping[str, str], *, keep: Callable[[str, bytes], None]
) -> Census:
    """Find the recordings of a list among the files of a copy, by content.

    `keep` is called once for each recording with its path in the raw tree and its content.
    """
    paths = {digest: path for path, digest in checksums.items()}
    places: dict[str, list[str]] = defaultdict(list)
    unknown: list[str] = []

    def recordings() -> Iterator[str]:
        for entry in entries:
            content = entry.read() if entry.size <= _LARGEST_RECORDING else b""
            path = paths.get(hashlib.sha256(content).hexdigest())
            if path is None:
                unknown.append(entry.name)
                continue
            places[path].append(entry.name)
            if len(places[path]) == 1:
                keep(path, content)
                yield path

    for _ in track(recordings(), len(checksums), "checking", "recordings"):
        pass
    return _judge(checksums, places, unknown)


def find_copy(settings: CorpusSettings, root: Path = Path()) -> Path | None:
    """Return the folder or zip named by `corpus.source` or else by `TESS_DIR`; None if the server is to be used.

    `root` is the repository. Raise `UserError` if what the user names is absent or has no recordings.
    """
    source = root / Path(settings.source).expanduser()
    is_default = source.resolve() == (root / DEFAULT_SOURCE).resolve()
    if (source.exists() or not is_default) and _holds_recordings(source, "corpus.source in params.yaml"):
        return source
    if not is_default:
        raise UserError(
            f"{source}: has neither recordings nor a zip. Put your copy of TESS there, or change corpus.source in "
            f"params.yaml. If it is {DEFAULT_SOURCE}, and empty, {VARIABLE} or the official server is used."
        )
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    copy = Path(named).expanduser()
    if not _holds_recordings(copy, VARIABLE):
        raise UserError(f"{copy}: has neither recordings nor a zip. Name your copy of TESS in {VARIABLE}, or unset it.")
    return copy


def parse_name(path: str) -> Utterance:
    """Parse the name of a recording, such as ``OAF_fear/OAF_food_fear.wav``."""
    match = _NAME.fullmatch(PurePosixPath(path).name)
    if match is None:
        raise UserError(f"{path}: is not a name of a TESS recording, such as OAF_food_fear.wav.")
    speaker, word, emotion = match.groups()
    return Utterance(path=Path(path), speaker=SPEAKERS[speaker], emotion=EMOTIONS[emotion], text=f"Say the word {word}")


def read_checksums() -> dict[str, str]:
    """Return the SHA-256 (hex) of each of the 2,800 originals by its path in the raw tree."""
    text = (resources.files(__package__) / "tess_sha256.txt").read_text(encoding="ascii")
    return {path: digest for digest, path in (line.split("  ", 1) for line in text.splitlines())}


def _judge(checksums: Mapping[str, str], places: Mapping[str, list[str]], unknown: list[str]) -> Census:
    paths = {_plain(path): path for path in checksums}
    lost = checksums.keys() - places.keys()
    altered: dict[str, str] = {}
    surplus = []
    for name in unknown:
        path = paths.get(_plain(name))
        if path in lost:
            altered[path] = f"{name}: differs from the original"
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
                altered[owner] = f"{name}: contains {path}"
            elif owner != path and not is_renamed:
                surplus.append(f"{name}: contains {path} again")
    return Census(
        found=len(places),
        missing=tuple(sorted(lost - altered.keys())),
        altered=tuple(sorted(altered.values())),
        renamed=tuple(sorted(renamed)),
        surplus=tuple(sorted(surplus)),
    )


def _plain(name: str) -> str:
    """Return the part of a name that all copies share."""
    return PurePosixPath(name).name.casefold()


def _report(census: Census, source: str, total: int) -> str:
    """Return what is wrong with a copy, file by file; long lists are cut, and written to a file as a whole."""
    verdict = "a complete copy of TESS" if census.is_whole else "not a complete copy of TESS"
    headline = f"{source}: {verdict}: {census.found:,} of {total:,} recordings are there and unchanged."
    lists = {
        "missing": census.missing,
        "altered": census.altered,
        "under another name": census.renamed,
        "not of TESS, left out": census.surplus,
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
        raise UserError(f"{source}: is neither a folder nor a complete zip. Get it again, or change {setting}.")
    return True


def _check_apart(source: Path, raw: Path) -> None:
    source, raw = source.resolve(), raw.resolve()
    if raw.is_relative_to(source) or source.is_relative_to(raw):
        raise UserError(f"{source}: lies around or within {raw}, where it would be copied to. Move your copy away.")


def _ways_on(settings: CorpusSettings, reason: str) -> str:
    return f"""TESS is not on this machine. {reason}. You can use:
  a folder: put your copy of TESS into {settings.source}, or name it in {VARIABLE} or corpus.source in params.yaml
  a zip: the same with a zip, such as Kaggle's, which need not be unpacked
  the server: connect this machine and run again to download about 290 MB
  `make demo`: the whole pipeline on a synthetic corpus, offline"""


def _may_be_recording(file: RemoteFile) -> bool:
    return PurePosixPath(file.name).suffix.lower() in _AUDIO_SUFFIXES or file.content_type.startswith("audio/")


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
