"""List and unpack a folder or zip of recordings; refuse dangerous archives."""

import io
import os
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


@dataclass(frozen=True)
class Limits:
    """How large a zip may become. Recordings shrink by half in a zip, a bomb by a thousand.

    Attributes
    ----------
    members : int
        Files in it, those in zips inside it included.
    member_bytes : int
        Size of one unpacked file.
    ratio : int
        Unpacked over packed size, of one file and of the whole, looked at above `unsuspicious_bytes` only: a short
        stretch of silence is no bomb.
    unsuspicious_bytes : int
        What may always be unpacked.
    depth : int
        Zips inside zips.
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
    """One file of a folder or a zip.

    Attributes
    ----------
    name : str
        Its path within the source, with slashes; for one in a zip inside, the inner zip's name is part of it.
    size : int
        Bytes.
    open : callable
        Gives it as a binary file; call it before the next entry is asked for. `read` also turns the errors of a
        damaged zip into one message.
    """

    name: str
    size: int
    open: Callable[[], IO[bytes]]

    def read(self) -> bytes:
        """Return the whole content.

        Raises
        ------
        UserError
            It cannot be read.
        """
        with _readable(self.name), self.open() as file:
            return file.read()


def walk(source: Path, *, limits: Limits = LIMITS) -> Iterator[Entry]:
    """Yield every file below a folder or in a zip, ordered by name, zips inside opened too.

    Hidden files and what macOS adds to its zips (`.DS_Store`, `__MACOSX`, `._name`) are left out. Links within a folder
    are followed: it is the user's own disk.

    Parameters
    ----------
    source : Path
        A folder or a zip.
    limits : Limits
        What a zip may hold.

    Raises
    ------
    UserError
        A zip is damaged or encrypted, or holds an absolute path, a path with `..`, a link, or absurd sizes.
    """
    if source.is_dir():
        for name, path in files_below(source):
            if path.suffix.lower() == ".zip":
                yield from _walk_zip(path, name, _Budget(limits, path.stat().st_size, name))
            else:
                yield file_entry(name, path)
    else:
        yield from _walk_zip(source, "", _Budget(limits, source.stat().st_size, str(source)))


def unpack(source: Path, folder: Path, *, limits: Limits = LIMITS) -> None:
    """Unpack a zip into a folder that is there and empty; zips inside stay zips, hidden files are left out.

    Parameters
    ----------
    source : Path
        The zip.
    folder : Path
        Where its files go. After an error it may hold some of them.
    limits : Limits
        What the zip may hold.

    Raises
    ------
    UserError
        As `walk`; or two members have one name, or the disk is too full.
    """
    with _readable(str(source)), zipfile.ZipFile(source) as archive:
        budget = _Budget(limits, source.stat().st_size, str(source))
        members = _checked(archive, str(source), budget)
        _check_collisions(members, str(source))
        check_space(sum(member.file_size for member in members), folder)
        for member in members:
            if _is_junk(_parts(member.filename)):
                continue
            target = folder.joinpath(*_parts(member.filename))
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, open(target, "wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)


def file_entry(name: str, path: Path) -> Entry:
    """Return a file of this disk as an entry of that name."""
    return Entry(name, path.stat().st_size, lambda: path.open("rb"))


def files_below(folder: Path) -> list[tuple[str, Path]]:
    """Return the files below a folder that are not hidden, each with its path relative to it, ordered by that.

    Links are followed, in a circle once.
    """
    found, visited = [], set()
    for top, below, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(top)
        if here in visited:
            below.clear()
            continue
        visited.add(here)
        below[:] = [name for name in below if not _is_junk([name])]
        found += [Path(top, name) for name in files if not _is_junk([name])]
    return sorted((path.relative_to(folder).as_posix(), path) for path in found if path.is_file())


def check_space(needed: int, folder: Path) -> None:
    """Refuse to begin what the disk has no room for.

    Raises
    ------
    UserError
        Fewer than `needed` bytes are free where `folder` lies.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{folder}: the disk has {free:,} bytes left, and {needed:,} are needed. Make room.")


class _Budget:
    """What a zip, with those inside it, may still hold."""

    def __init__(self, limits: Limits, packed_bytes: int, name: str) -> None:
        self.limits = limits
        self.name = name
        self.members = limits.members
        self.bytes = max(limits.unsuspicious_bytes, limits.ratio * packed_bytes)

    def take(self, member: zipfile.ZipInfo, name: str) -> None:
        limits = self.limits
        self.members -= 1
        self.bytes -= member.file_size
        ratio = member.file_size / max(1, member.compress_size)
        if member.file_size > limits.member_bytes or (
            member.file_size > limits.unsuspicious_bytes and ratio > limits.ratio
        ):
            raise _refusal(name, member, f"it would unpack to {member.file_size:,} bytes, {ratio:,.0f} times its size")
        if self.bytes < 0:
            raise UserError(f"{self.name}: refused: it would unpack to more than {limits.ratio} times its size.")
        if self.members < 0:
            raise UserError(f"{self.name}: refused: it holds more than {limits.members:,} files.")


def _walk_zip(source: Path | IO[bytes], name: str, budget: _Budget, depth: int = 1) -> Iterator[Entry]:
    shown = name or budget.name
    prefix = f"{name}/" if name else ""
    if depth > budget.limits.depth:
        raise UserError(f"{shown}: refused: it is a zip inside {depth - 1} others. Unpack it first.")
    with _readable(shown):
        archive = zipfile.ZipFile(source)
    with archive:
        with _readable(shown):
            members = _checked(archive, shown, budget)
        for member in members:
            inner = prefix + member.filename.replace("\\", "/")
            if _is_junk(_parts(member.filename)):
                continue
            if member.filename.lower().endswith(".zip"):
                with _readable(inner), tempfile.TemporaryFile() as unpacked:
                    with archive.open(member) as packed:
                        shutil.copyfileobj(packed, unpacked, 1 << 20)
                    yield from _walk_zip(unpacked, inner, budget, depth + 1)
            else:
                yield Entry(inner, member.file_size, partial(archive.open, member))


def _checked(archive: zipfile.ZipFile, name: str, budget: _Budget) -> list[zipfile.ZipInfo]:
    """Return the files of a zip, ordered by name; all are looked at before anything is unpacked."""
    members = sorted((one for one in archive.infolist()), key=lambda one: one.filename)
    for member in members:
        _check_path(member, name)
        _check_type(member, name)
        budget.take(member, name)
    return [one for one in members if not one.is_dir()]


def _check_path(member: zipfile.ZipInfo, name: str) -> None:
    path = member.orig_filename.replace("\\", "/")
    if path.startswith("/") or _DRIVE.match(path):
        raise _refusal(name, member, "its path is absolute")
    if ".." in path.split("/"):
        raise _refusal(name, member, "its path leads out of the folder (..)")
    if "\0" in path or not (_parts(path) or member.is_dir()):
        raise _refusal(name, member, "its path is no file name")


def _check_type(member: zipfile.ZipInfo, name: str) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise _refusal(name, member, "it is a link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refusal(name, member, "it is neither a file nor a folder")
    if member.flag_bits & _ENCRYPTED:
        raise _refusal(name, member, "it is encrypted; unpack the zip with its password first, and name the folder")


def _check_collisions(members: list[zipfile.ZipInfo], name: str) -> None:
    seen: dict[str, str] = {}
    for member in members:
        # many file systems know neither upper and lower case nor two ways to write an accent
        key = unicodedata.normalize("NFC", "/".join(_parts(member.filename))).casefold()
        if key in seen:
            raise _refusal(name, member, f"its name collides with '{seen[key]}'")
        seen[key] = member.filename


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]


def _is_junk(parts: list[str]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _refusal(name: str, member: zipfile.ZipInfo, why: str) -> UserError:
    return UserError(f"{name}: refused, nothing was unpacked: '{member.orig_filename}': {why}.")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn the many ways in which a zip or a file cannot be read into one message."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, io.UnsupportedOperation) as error:
        raise UserError(f"{name}: a damaged zip ({error}). Get it again.") from None
    except NotImplementedError as error:
        raise UserError(f"{name}: a zip of a kind that Python cannot unpack ({error}). Unpack it first.") from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror or error}).") from None
