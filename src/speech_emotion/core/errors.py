"""The exception that carries a message for the user, and messages for errors of the system.

Imports only the standard library, because every prediction imports this module.
"""

import errno
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

_NO_RIGHT: Final = "See who owns it and what its rights are, or name another place."
_NO_FOLDER: Final = "A file lies where a folder is needed: move it away, or name another place."

_WAYS_OUT: Final = MappingProxyType(
    {
        errno.ENOSPC: "Make room on the disk that is written to.",
        errno.EDQUOT: "Make room in your quota of the disk that is written to.",
        errno.EACCES: _NO_RIGHT,
        errno.EPERM: _NO_RIGHT,
        errno.EROFS: "Make that disk writable, or name a place on another one.",
        errno.ENOTDIR: _NO_FOLDER,
        errno.EEXIST: _NO_FOLDER,
        errno.EISDIR: "A folder lies where a file is needed: move it away, or name another place.",
        errno.ENAMETOOLONG: "Choose a shorter name, or a place with a shorter path.",
    }
)
"""What the user can do, by the number of an operating system's error that is the machine's fault and not ours."""

# a password may contain `/` and `@`
_USER_INFO: Final = re.compile(r"(?<=://)(?:[^\s:/@]*:\S*|[^\s/@]*)@")
_SECRET_PARAMETER: Final = re.compile(r"(?i)([?&](?:password|passwd|pwd|token|secret)=)[^\s&]+")


class UserError(Exception):
    """An error that the user can fix.

    The message is all that is shown: it says what was wrong, where, and what to do next. Entry points (the stages, the
    command line, the servers) print it and end with a status other than 0; a traceback is kept for mistakes of ours.
    Credentials in URIs are masked.
    """

    def __init__(self, message: str) -> None:
        super().__init__(mask_credentials(message))


def mask_credentials(text: str) -> str:
    """Replace user and password in every URI of a text by `***`, and the value of a parameter such as `password`.

    Examples
    --------
    >>> mask_credentials("postgresql://ada:secret@db/mlflow?password=secret")
    'postgresql://***@db/mlflow?password=***'
    """
    return _SECRET_PARAMETER.sub(r"\1***", _USER_INFO.sub("***@", text))


def first_line(error: BaseException) -> str:
    """Return an exception as one short line, without credentials."""
    return mask_credentials(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}")


def print_masked_traceback(kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
    """Print a traceback without credentials, as `sys.excepthook`."""
    print(mask_credentials("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr, end="")


def listing(lines: Sequence[str], shown: int | None = 20) -> str:
    """Return the first lines, indented, and how many more there are."""
    first = [f"  {line}" for line in lines[:shown]]
    more = len(lines) - len(first)
    return "\n".join([*first, f"  and {more:,} more"] if more else first)


def in_words(error: OSError) -> str:
    """Return what the machine refuses and what to do, in one line; an empty text if the mistake may be ours."""
    # filename2 is the target of a rename or copy
    name = error.filename if error.filename2 is None else error.filename2
    place = "" if name is None or isinstance(name, int) else os.fsdecode(name)
    way_out = _WAYS_OUT.get(error.errno or 0)
    if way_out is _NO_FOLDER:
        # the error names the new path; report the parent that is a file
        place = next((str(path) for path in (Path(place), *Path(place).parents) if path.is_file()), "")
    # without a name these may be about a port, a process, or a file that we should not have made twice
    if way_out is None or (not place and way_out in (_NO_FOLDER, _NO_RIGHT)):
        return ""
    return f"{place + ': ' if place else ''}{error.strerror or error}. {way_out}"
