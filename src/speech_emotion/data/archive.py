"""List and unpack a folder or zip of recordings; refuse dangerous archives."""

import io
import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path
from typing import IO, Final

from speech_emotion.core.errors import UserError
from speech_emotion.core.io import is_hidden, walk_files


@dataclass(frozen=True)
class Limits:
    """How large a zip may become, zips inside it included. Recordings shrink by half in a zip, a bomb by a thousand.

    `ratio` is unpacked over packed size, of one file and of all. It applies above `unsuspicious_bytes` only: a short
    silence is no bomb. `depth` counts zips inside zips.
    """

    members: int = 500_000
    member_bytes: int = 2 << 30
    ratio: int = 100
    unsuspicious_bytes: int = 64 << 20
    depth: int = 3


LIMITS: Final = Limits()

_DRIVE = re.compile(r"[A-Za-z]:")
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Entry:
    """A file of a folder or zip: its path within that, with slashes, and its size in bytes.

    Read an entry before you request the next one.
    """

    name: str
    size: int
    open: Callable[[], IO[bytes]]

    def read(self) -> bytes:
        """Return the content; raise `UserError` if the zip is damaged."""
        with _readable(self.name), self.open() as file:
            return file.read()


def walk(source: Path, *, limits: Limits = LIMITS) -> Iterator[Entry]:
    """Yield the regular files below a folder or in a zip, in order; zips inside are opened too, hidden names left out.

    Raise `UserError` if a folder cannot be read, or a zip is damaged, encrypted, or has an absolute path, `..`, a link
    or absurd sizes.
    """
    if not source.is_dir():
        yield from _walk_zip(source, "", _Budget(limits, source))
        return
    for path in walk_files(source):
        name = path.relative_to(source).as_posix()
        if path.is_file() and path.suffix.lower() == ".zip":
            yield from _walk_zip(path, name, _Budget(limits, path))
        elif path.is_file():
            yield file_entry(name, path)


def unpack(source: Path, folder: Path, *, limits: Limits = LIMITS) -> None:
    """Unpack a zip into an empty folder, after all checks; zips inside stay zips, hidden files are left out.

    Raise `UserError` as `walk`, or if two members have one name or the disk is too full.
    """
    with _readable(str(source)), zipfile.ZipFile(source) as archive:
        members = _checked(archive, str(source), _Budget(limits, source))
        seen: dict[str, str] = {}
        for member in members:
            # many file systems know neither upper and lower case nor two ways to write an accent
            key = unicodedata.normalize("NFC", "/".join(_parts(member.filename))).casefold()
            if key in seen:
                raise _refusal(str(source), member, f"its name collides with '{seen[key]}'")
            seen[key] = member.filename
        check_space(sum(member.file_size for member in members), folder)
        for member in members:
            target = folder.joinpath(*_parts(member.filename))
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, open(target, "wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)


def file_entry(name: str, path: Path) -> Entry:
    """Return a file on disk as an entry."""
    return Entry(name, path.stat().st_size, lambda: path.open("rb"))


def check_space(needed: int, folder: Path) -> None:
    """Raise `UserError` if fewer than `needed` bytes are free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{folder}: the disk has {free:,} bytes left, and {needed:,} are needed. Make room.")


def check_apart(source: Path, raw: Path) -> None:
    """Raise `UserError` if a copy of recordings contains, or is inside, the target folder."""
    source, raw = source.resolve(), raw.resolve()
    if raw.is_relative_to(source) or source.is_relative_to(raw):
        raise UserError(f"{source}: lies around or within {raw}, where it would be copied to. Move your copy away.")


class _Budget:
    """What a zip, with the zips inside it, may still hold."""

    def __init__(self, limits: Limits, source: Path) -> None:
        self.limits, self.name, self.members = limits, str(source), limits.members
        self.bytes = max(limits.unsuspicious_bytes, limits.ratio * source.stat().st_size)

    def take(self, member: zipfile.ZipInfo, name: str) -> None:
        limits, size = self.limits, member.file_size
        self.members -= 1
        self.bytes -= size
        ratio = size / max(1, member.compress_size)
        if size > limits.member_bytes or (size > limits.unsuspicious_bytes and ratio > limits.ratio):
            raise _refusal(name, member, f"it would unpack to {size:,} bytes, {ratio:,.0f} times its size")
        if self.bytes < 0:
            raise UserError(f"{self.name}: refused: it would unpack to more than {limits.ratio} times its size.")
        if self.members < 0:
            raise UserError(f"{self.name}: refused: it holds more than {limits.members:,} files.")


def _walk_zip(source: Path | IO[bytes], name: str, budget: _Budget, depth: int = 1) -> Iterator[Entry]:
    shown = name or budget.name
    if depth > budget.limits.depth:
        raise UserError(f"{shown}: refused: it is a zip inside {depth - 1} others. Unpack it first.")
    with _readable(shown):
        archive = zipfile.ZipFile(source)
    with archive:
        with _readable(shown):
            members = _checked(archive, shown, budget)
        for member in members:
            inner = (f"{name}/" if name else "") + member.filename.replace("\\", "/")
            if not member.filename.lower().endswith(".zip"):
                yield Entry(inner, member.file_size, partial(archive.open, member))
                continue
            with _readable(inner), tempfile.TemporaryFile() as unpacked:
                with archive.open(member) as packed:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
                yield from _walk_zip(unpacked, inner, budget, depth + 1)


def _checked(archive: zipfile.ZipFile, name: str, budget: _Budget) -> list[zipfile.ZipInfo]:
    """Check all members of a zip before any is unpacked; return the visible files, ordered by name."""
    members = sorted(archive.infolist(), key=lambda one: one.filename)
    for member in members:
        path, kind = member.orig_filename.replace("\\", "/"), stat.S_IFMT(member.external_attr >> 16)
        if path.startswith("/") or _DRIVE.match(path):
            raise _refusal(name, member, "its path is absolute")
        if ".." in path.split("/"):
            raise _refusal(name, member, "its path leads out of the folder (..)")
        if "\0" in path or not (_parts(path) or member.is_dir()):
            raise _refusal(name, member, "its path is no file name")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refusal(name, member, "it is a link" if kind == stat.S_IFLNK else "it is neither file nor folder")
        if member.flag_bits & _ENCRYPTED:
            raise _refusal(name, member, "it is encrypted; unpack the zip with its password and name the folder")
        budget.take(member, name)
    return [one for one in members if not one.is_dir() and not any(map(is_hidden, _parts(one.filename)))]


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]


def _refusal(name: str, member: zipfile.ZipInfo, why: str) -> UserError:
    return UserError(f"{name}: refused, nothing was unpacked: '{member.orig_filename}': {why}.")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn the many errors of a damaged zip or unreadable file into one message."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, io.UnsupportedOperation) as error:
        raise UserError(f"{name}: a damaged zip ({error}). Get it again.") from None
    except NotImplementedError as error:
        raise UserError(f"{name}: a zip of a kind that Python cannot unpack ({error}). Unpack it first.") from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror or error}).") from None
