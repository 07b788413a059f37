"""A published corpus: find a copy or download one, and check each recording against the list of originals.

Copies differ in folders, in upper and lower case and in duplicates, and some contain a recording under another one's
name. A recording is therefore identified by its content: `<kind>_sha256.txt` beside this file (for `sha256sum --check`)
lists the originals, each with the name it gets here.
"""

import hashlib
import os
import re
import shutil
import sys
import zipfile
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final

from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.core.errors import UserError, listing
from speech_emotion.core.io import digest_json, replacing_folder, walk_files, write_text
from speech_emotion.core.process import SCRATCH, alone
from speech_emotion.core.progress import track
from speech_emotion.data.archive import Entry, check_apart, check_space, file_entry, walk
from speech_emotion.data.corpora.base import Utterance
from speech_emotion.data.download import Downloader, RemoteFile, UnreachableError

DEFAULT_SOURCE: Final = Path("data/incoming")
"""The `corpus.source` of params.yaml. It may be absent or empty; any other source must contain recordings."""

_AUDIO_SUFFIXES: Final = frozenset({".aif", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".wav"})
_LARGEST_RECORDING: Final = 8 << 20


class PublishedCorpus(ABC):
    """A corpus whose recordings are a fixed list of files.

    `settings.source` is a zip, or a folder of recordings or zips. If it is `data/incoming` and empty, the environment
    variable `<KIND>_DIR` may name a copy; otherwise the recordings are downloaded. `checksums` map the path of each
    recording in the raw tree to its SHA-256 (hex); by default those of the originals.
    """

    kind: ClassVar[str]
    """As in `corpus.kind` of params.yaml."""
    title: ClassVar[str]
    """Short name, for messages."""
    megabytes: ClassVar[int]
    """Approximate size of the download."""
    pattern: ClassVar[str]
    """Regular expression of the end of a path, without suffix, with the groups `speaker`, `emotion` and `text`."""
    speakers: ClassVar[Mapping[str, str]] = {}
    """Speaker by its spelling in names, where they differ."""
    women: ClassVar[frozenset[str] | None] = None
    """Speakers who are women; the others are men. None: unknown."""
    emotions: ClassVar[Mapping[str, str]]
    """Label by its spelling in names."""
    texts: ClassVar[Mapping[str, str]] = {}
    """Text by its code in file names; other texts are identified by their code."""

    def __init__(
        self,
        settings: CorpusSettings,
        download: DownloadSettings | None = None,
        *,
        checksums: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.download = download
        self.checksums = read_checksums(self.kind) if checksums is None else checksums

    @abstractmethod
    def remote_files(self, downloader: Downloader, settings: DownloadSettings) -> list[RemoteFile]:
        """Return the recordings, or zips of them, on the official server; raise `UserError` if there is none."""

    @classmethod
    def parse_name(cls, path: Path) -> Utterance | None:
        """Return what the path of a recording says; None if it is not named as in this corpus."""
        match = re.fullmatch(rf"(?:.*/)?{cls.pattern}", path.with_suffix("").as_posix())
        if match is None:
            return None
        speaker, text = cls.speakers.get(match["speaker"], match["speaker"]), match["text"]
        sex = "" if cls.women is None else "female" if speaker in cls.women else "male"
        return Utterance(path, speaker, cls.emotions[match["emotion"]], cls.texts.get(text, text), sex=sex)

    def plain(self, path: str) -> str:
        """Return the part of a path on which copies agree."""
        return PurePosixPath(path).name.casefold()

    def fetch(self, raw: Path) -> None:
        """Fill the folder `raw` with the recordings, byte for byte: all of them, or none."""
        source = find_copy(self.kind, self.settings)
        if source is None:
            self._fetch_from_server(raw)
            return
        check_apart(source, raw)
        print(f"{self.title}: reading {source}")
        self._fill(raw, walk(source), str(source), "Get a complete copy, or remove this one to have it downloaded.")

    def utterances(self, raw: Path) -> list[Utterance]:
        """Return the recordings in `raw`, ordered by path; raise `UserError` if `raw` has changed since `fetch`."""
        found = {path.relative_to(raw).as_posix() for path in walk_files(raw)}
        lists = {
            "missing": sorted(self.checksums.keys() - found),
            f"not of {self.title}": sorted(found - self.checksums.keys()),
        }
        if any(lists.values()):
            headline = f"{raw}: is not as the stage `download` left it. Run `dvc repro download`."
            raise UserError(_listed(headline, lists))
        return [one for path in sorted(found) if (one := self.parse_name(Path(path)))]

    def _fetch_from_server(self, raw: Path) -> None:
        assert self.download is not None, "fetch needs the settings of the server"
        settings = self.download
        digest = digest_json([self.kind, settings.server, settings.persistent_id])
        with alone(f"download/{digest[:16]}") as scratch, Downloader(settings) as downloader:
            kept = scratch / "files"
            kept.mkdir(exist_ok=True)
            try:
                files = self.remote_files(downloader, settings)
                size = sum(file.size or 0 for file in files) or self.megabytes * 1_000_000
                check_space(2 * size - sum(path.stat().st_size for path in kept.iterdir()), kept)
                print(f"{self.title}: downloading {len(files):,} files, {size / 1e6:,.0f} MB", flush=True)
                for _ in track(downloader.fetch(files, kept), len(files), "downloading", "files"):
                    pass
            except UnreachableError as error:
                raise UserError(self._ways_to_get_it(str(error))) from None
            files.sort(key=lambda file: (file.name, file.url))
            advice = "The server has another version than this software knows: use a copy of the original."
            self._fill(raw, _entries(files, kept), "the server", advice)
            shutil.rmtree(kept)

    def _fill(self, raw: Path, entries: Iterable[Entry], source: str, advice: str) -> None:
        total = len(self.checksums)
        accept_altered = self.settings.checksums == "ignore"
        with replacing_folder(raw) as temporary:
            check = check_copy(entries, temporary, self.checksums, plain=self.plain, accept_altered=accept_altered)
            if not check.is_complete:
                raise UserError(f"{_report(check, self.title, source, total)}\n{advice}")
        verified = "each with its original SHA-256"
        if check.accepted:
            verified = f"{check.accepted:,} of them accepted by name only (corpus.checksums: ignore)"
        print(f"{self.title}: {total:,} recordings, {verified}")
        if check.renamed or check.surplus:
            print(_report(check, self.title, source, total), file=sys.stderr)

    def _ways_to_get_it(self, reason: str) -> str:
        variable = variable_of(self.kind)
        return f"""{self.title} is not on this machine, and {reason}. Do one of these:
  a folder: put your copy into {self.settings.source}, or name it in {variable}
  a zip: the same, with a zip of it, such as Kaggle's, which need not be unpacked
  the server: connect this machine and run again; the recordings (about {self.megabytes:,} MB) are downloaded
  `make demo`: run the whole pipeline on a synthetic corpus, offline"""


@dataclass(frozen=True)
class CopyCheck:
    """The result of comparing a copy with the list of originals: how many recordings it has, and lists of names.

    `accepted` recordings have another content than the original. A recording that is nowhere in the copy is `altered`
    if the copy has a file of its name, else `missing`. `surplus` are other audio files, and second copies under another
    recording's name.
    """

    found: int
    accepted: int
    missing: list[str]
    altered: list[str]
    renamed: list[str]
    surplus: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether every recording is there, under any name."""
        return not self.missing and not self.altered


def check_copy(
    entries: Iterable[Entry],
    target: Path,
    checksums: Mapping[str, str],
    *,
    plain: Callable[[str], str],
    accept_altered: bool,
) -> CopyCheck:
    """Read every file of a copy, identify the recordings by their content, and write each to the folder `target`.

    `checksums` map paths in the raw tree to SHA-256 (hex); `plain` returns the part of a path on which copies agree.
    With `accept_altered`, a file with the name of a recording may have another content.
    """
    by_digest: dict[str, list[str]] = defaultdict(list)  # some corpora have two recordings with one content
    for path, digest in checksums.items():
        by_digest[digest].append(path)
    by_name = {plain(path): path for path in checksums}
    places: dict[str, list[str]] = defaultdict(list)
    unknown: list[str] = []
    accepted: set[str] = set()

    def recording_of(entry: Entry, content: bytes) -> str | None:
        candidates = by_digest.get(hashlib.sha256(content).hexdigest(), [])
        named = by_name.get(plain(entry.name))
        if named in candidates:
            return named
        if not candidates and accept_altered and named and content and named not in places:
            accepted.add(named)
            return named
        return next((path for path in candidates if path not in places), candidates[0] if candidates else None)

    def recordings() -> Iterator[str]:
        for entry in entries:
            content = entry.read() if entry.size <= _LARGEST_RECORDING else b""
            path = recording_of(entry, content)
            if path is None:
                unknown.append(entry.name)
                continue
            places[path].append(entry.name)
            if len(places[path]) == 1:
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).write_bytes(content)
                yield path

    for _ in track(recordings(), len(checksums), "checking", "recordings"):
        pass
    return _compare(checksums, by_name, places, unknown, len(accepted), plain)


def _compare(
    checksums: Mapping[str, str],
    by_name: Mapping[str, str],
    places: Mapping[str, list[str]],
    unknown: list[str],
    accepted: int,
    plain: Callable[[str], str],
) -> CopyCheck:
    lost = checksums.keys() - places.keys()
    altered: dict[str, str] = {}
    surplus = []
    for name in unknown:
        path = by_name.get(plain(name))
        if path in lost:
            altered[path] = f"{name}: differs from the original"
        elif PurePosixPath(name).suffix.lower() in _AUDIO_SUFFIXES:
            surplus.append(name)
    renamed = []
    for path, names in places.items():
        is_renamed = plain(path) not in map(plain, names)
        if is_renamed:
            renamed.append(f"{names[0]}: is {path}")
        for name in names:
            owner = by_name.get(plain(name), path)
            if owner in lost:
                altered[owner] = f"{name}: contains {path}"
            elif owner != path and not is_renamed:
                surplus.append(f"{name}: contains {path} once more")
    lists = (lost - altered.keys(), altered.values(), renamed, surplus)
    return CopyCheck(len(places), accepted, *map(sorted, lists))


def find_copy(kind: str, settings: CorpusSettings, root: Path = Path()) -> Path | None:
    """Return the folder or zip that the user named, as `corpus.source` or as `<KIND>_DIR`; or None.

    Raise `UserError` if the named path does not exist, is neither folder nor zip, or contains no recordings. The
    default source may be absent or empty. `root` is what `corpus.source` is relative to.
    """
    variable = variable_of(kind)
    source = root / Path(settings.source).expanduser()
    # in a mix, the copy of a corpus is a sub-folder
    is_default = source.resolve() in [(root / place).resolve() for place in (DEFAULT_SOURCE, DEFAULT_SOURCE / kind)]
    if (source.exists() or not is_default) and _has_recordings(source, "corpus.source in params.yaml"):
        return source
    if not is_default:
        raise UserError(
            f"{source}: has neither recordings nor a zip. Put your copy there, or change corpus.source in "
            f"params.yaml: while it is {DEFAULT_SOURCE} and empty, {variable} or the official server is used."
        )
    named = os.environ.get(variable)
    if not named:
        return None
    copy = Path(named).expanduser()
    if not _has_recordings(copy, variable):
        raise UserError(f"{copy}: has neither recordings nor a zip. Name your copy in {variable}, or unset it.")
    return copy


def variable_of(kind: str) -> str:
    """Return the environment variable that may name a copy of a corpus."""
    return f"{kind.upper()}_DIR"


def read_checksums(kind: str) -> dict[str, str]:
    """Return the path in the raw tree and the SHA-256 (hex) of each original recording."""
    text = (resources.files(__package__) / f"{kind}_sha256.txt").read_text(encoding="ascii")
    return {path: digest for digest, path in (line.split("  ", 1) for line in text.splitlines())}


def _entries(files: Sequence[RemoteFile], kept: Path) -> Iterator[Entry]:
    for file in files:
        path = kept / file.key
        if file.name.lower().endswith(".zip"):
            yield from walk(path)
        else:
            yield file_entry(file.name, path)


def _report(check: CopyCheck, title: str, source: str, total: int) -> str:
    """Return what is wrong with a copy, every file by name; long lists are cut and written to a file."""
    verdict = f"a complete copy of {title}" if check.is_complete else f"not a complete copy of {title}"
    headline = f"{source}: {verdict}: {check.found:,} of {total:,} recordings found."
    lists = {
        "missing": check.missing,
        "altered": check.altered,
        "under another name": check.renamed,
        f"not of {title}, left out": check.surplus,
    }
    short, full = (_listed(headline, lists, shown) for shown in (20, None))
    if short == full:
        return full
    file = SCRATCH / "download" / "report.txt"
    write_text(file, f"{full}\n")
    return f"{short}\nAll names: {file}"


def _listed(headline: str, lists: Mapping[str, Sequence[str]], shown: int | None = 20) -> str:
    parts = [f"{title} ({len(names):,}):\n{listing(names, shown)}" for title, names in lists.items() if names]
    return "\n".join([headline, *parts])


def _has_recordings(source: Path, setting: str) -> bool:
    if source.is_dir():
        suffixes = {path.suffix.lower() for path in walk_files(source)}
        return not suffixes.isdisjoint(_AUDIO_SUFFIXES | {".zip"})
    if not source.exists():
        raise UserError(f"{source}: there is no such folder or zip. Put it there, or change {setting}.")
    if not source.is_file() or not zipfile.is_zipfile(source):
        raise UserError(f"{source}: is neither a folder nor a complete zip. Get it again, or change {setting}.")
    return True
