"""Make paths that are no regular files, and folders that cannot be read."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _socket(path: Path) -> Path:
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket is at most 107 bytes long
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)
    return path


def _device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


_Make = Callable[[Path], Path]
IRREGULAR: dict[str, _Make] = {"a named pipe": _fifo, "a socket": _socket, "a device": _device, "a folder": _folder}
"""How to make each kind of path that is no regular file, by its name in messages."""


@contextmanager
def unreadable(folder: Path) -> Iterator[None]:
    """Take away the right to read a folder; root, who may read everything, becomes nobody.

    Use paths relative to the working folder: nobody may not pass the folders above it.
    """
    root = os.geteuid() == 0
    os.chmod(".", 0o755)
    mode = folder.stat().st_mode
    folder.chmod(0)
    if root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(mode)
