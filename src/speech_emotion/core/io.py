"""Write files atomically, compute digests, walk folders, and read and write CSV."""

import csv
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import IO, Any, BinaryIO

from speech_emotion.core.errors import UserError, listing

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def canonical_json(value: Any) -> str:
    """Return `value` as JSON whose bytes depend on nothing but the value (sorted keys, no spaces, no NaN)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_json(value: Any) -> str:
    """Return the SHA-256 (hex) of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with open_regular_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def digest_folder(folder: Path) -> str:
    """Return the SHA-256 (hex) over the relative path and content of every file below `folder`."""
    files = [path for path in walk_files(folder, hidden=True) if path.is_file()]
    return digest_json({path.relative_to(folder).as_posix(): digest_file(path) for path in files})


def require_regular_file(path: Path) -> None:
    """Raise a UserError unless `path`, or what it links to, is a regular file: a FIFO would block, a device never ends.

    `open_regular_file` checks and opens without a gap in between.
    """
    try:
        kind = _kind(os.stat(path).st_mode)
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    if kind:
        raise UserError(f"{path}: is {kind}, not a regular file.")


def open_regular_file(path: str | Path) -> BinaryIO:
    """Open a regular file for reading, unbuffered; raise an OSError for a folder, FIFO, device or socket."""
    kind = _kind(os.stat(path).st_mode)  # opening some devices has effects
    if not kind:
        # O_NONBLOCK: the path may have become a FIFO
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
        kind = _kind(os.fstat(file.fileno()).st_mode)
        if not kind:
            return file
        file.close()
    raise OSError(errno.EINVAL, f"{kind}, not a regular file", os.fspath(path))


def walk_files(folder: Path, *, hidden: bool = False) -> list[Path]:
    """Return all files below a folder, sorted; other things than folders are files here.

    Links are followed, and each folder is entered once. Names that begin with a dot, and `__MACOSX`, are left out
    unless `hidden`. Raise `UserError` if a folder cannot be read.
    """
    found: list[Path] = []
    entered = set()
    for here, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        state = os.stat(here)
        if (state.st_dev, state.st_ino) in entered:
            folders.clear()
            continue
        entered.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if hidden or not is_hidden(name))
        found += [Path(here, name) for name in names if hidden or not is_hidden(name)]
    return sorted(found)


def is_hidden(name: str) -> bool:
    """Return whether a name is hidden on Unix or is the folder that macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on success it replaces `target`, on failure it is removed."""
    temporary = _temporary(target)
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; on success it replaces `target`, on failure it is removed."""
    temporary, previous = _temporary(target), _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        if target.is_dir():  # a failure between the two leaves the previous folder under its temporary name
            os.replace(target, previous)
        os.replace(temporary, target)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write `text` (UTF-8, newlines as they are) to `target`, atomically."""
    with replacing(target) as temporary:
        temporary.write_bytes(text.encode())


def write_json(target: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Write `value` as sorted, indented JSON to `target`, atomically."""
    write_text(target, json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv_rows(file: IO[str], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table to an open file, one row at a time."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def read_csv_rows(
    table: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> list[tuple[int, dict[str, str]]]:
    """Return the line and the cells by column of each row of a CSV, as text; raise a `UserError` if it is not one."""
    require_regular_file(table)
    try:
        text = nfc(table.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{table}: cannot be read as UTF-8 ({error}). Save it as 'CSV UTF-8'.") from None
    first = text.partition("\n")[0].strip()
    separator = first[4:] if re.fullmatch("sep=.", first) else ""  # spreadsheets write such a line above the header
    header = text.split("\n", 2)[1 if separator else 0]
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator or max(",;\t", key=header.count))
    try:
        if separator:
            next(reader)
        columns = [name.strip().lower() for name in next(reader, [])]
        _check_columns(table, columns, required, optional)
        rows, mistakes = [], []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                mistakes.append(f"line {reader.line_num}: has {len(cells)} cells and the header has {len(columns)}")
            cell = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
            rows.append((reader.line_num, {name: cell.get(name, "") for name in (*required, *optional)}))
    except csv.Error as error:
        raise UserError(f"{table}: line {reader.line_num}: is not CSV ({error}).") from None
    refuse(str(table), mistakes)
    if not rows:
        raise UserError(f"{table}: lists no recordings.")
    return rows


def _check_columns(table: Path, columns: list[str], required: Sequence[str], optional: Sequence[str]) -> None:
    mistakes = [f"has no column '{name}'" for name in required if name not in columns]
    mistakes += [f"has the column '{name}' twice" for name in (*required, *optional) if columns.count(name) > 1]
    if mistakes:
        found, more = ", ".join(filter(None, columns)), f"; optional: {', '.join(optional)}" * bool(optional)
        raise UserError(f"{table}: {mistakes[0]}. Found: {found or 'nothing'}. Needed: {', '.join(required)}{more}.")


def nfc(text: str) -> str:
    """Return text in Unicode NFC, as labels and tables are compared."""
    return unicodedata.normalize("NFC", text)


def refuse(where: str, mistakes: Sequence[str]) -> None:
    """Raise a UserError that lists mistakes, if there are any."""
    if len(mistakes) == 1:
        raise UserError(f"{where}: {mistakes[0]}.")
    if mistakes:
        raise UserError(f"{where}: {len(mistakes)} mistakes:\n{listing(mistakes)}")


def _kind(mode: int) -> str:
    """Return what a file is, for a message; an empty text for a regular file."""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def _refuse_folder(error: OSError) -> None:
    raise UserError(f"{error.filename}: folder cannot be read ({error.strerror}). Allow reading it, or move it away.")


def _temporary(target: Path) -> Path:
    """Return a temporary name beside the target, after removing what killed processes left under such names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{glob.escape(target.name)}.*-*.partial"):
        owner = left.name.removeprefix(f".{target.name}.").partition("-")[0]
        if owner.isdecimal() and _is_gone(int(owner)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


def _is_gone(pid: int) -> bool:
    import psutil  # rarely needed, and every prediction imports this module

    try:
        # a zombie still has its number
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
