"""Write files atomically and compute digests."""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """Return `value` as JSON whose bytes depend on nothing but the value (sorted keys, no spaces, no NaN)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_json(value: Any) -> str:
    """Return the SHA-256 (hex) of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    """Return the SHA-256 (hex) over the relative path and content of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest_json({path.relative_to(folder).as_posix(): digest_file(path) for path in files})


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path to write a file to; on success it takes `target`'s place, on failure nothing is left of it."""
    _sweep(target)
    handle, name = tempfile.mkstemp(prefix=_aside_prefix(target), suffix=".partial", dir=target.parent)
    os.close(handle)
    aside = Path(name)
    # mkstemp makes files private; outputs are for whoever may read the folder
    aside.chmod(0o666 & ~_umask())
    try:
        yield aside
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; on success it takes `target`'s place, on failure nothing is left of it."""
    _sweep(target)
    aside = Path(tempfile.mkdtemp(prefix=_aside_prefix(target), suffix=".partial", dir=target.parent))
    aside.chmod(0o777 & ~_umask())
    try:
        yield aside
        if target.exists():
            shutil.rmtree(target)
        os.replace(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write `text` (UTF-8, newlines as they are) to `target`, whole or not at all."""
    with replacing(target) as aside:
        aside.write_bytes(text.encode())


def write_json(target: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Write `value` as sorted, indented JSON to `target`, whole or not at all."""
    write_text(target, json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _aside_prefix(target: Path) -> str:
    return f".{target.name}.{os.getpid()}-"


def _sweep(target: Path) -> None:
    """Make the target's folder, and remove from it what killed processes were writing in the target's stead."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{glob.escape(target.name)}.*-*.partial"):
        owner = left.name.removeprefix(f".{target.name}.").partition("-")[0]
        if owner.isdecimal() and _is_gone(int(owner)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _is_gone(pid: int) -> bool:
    import psutil  # here, where it is hardly ever needed: this module is on the way to every answer

    try:
        # a killed process whose new parent has not yet taken notice still has its number
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
