"""Takes nothing; gives a process that returns large blocks of memory to the system as soon as they are free."""

import ctypes
import sys
from contextlib import suppress
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 2**20


def give_back_at_once() -> None:
    """Have glibc map every block of a MiB or more by itself.

    Left alone it raises that threshold to the largest block it has seen freed, and from then on keeps what a long
    recording took.
    """
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # another C library, which has no such threshold
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
