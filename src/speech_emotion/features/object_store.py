"""Read and write whole files at any URL that fsspec supports (s3://, gs://, abfs://, file://, …).

fsspec reads credentials and endpoints from the environment (FSSPEC_S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …) and from
~/.config/fsspec.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from speech_emotion.core.errors import UserError


def join(url: str, *parts: str) -> str:
    """Append path parts to a URL."""
    return "/".join([url.rstrip("/"), *parts])


def put(url: str, content: bytes) -> None:
    """Write a file and its parent folders; raise a UserError if the storage refuses it."""
    import fsspec  # only cluster tasks need it

    with _as_user_error(url, "written"), fsspec.open(url, "wb") as file:
        file.write(content)


def fetch(url: str) -> bytes:
    """Read a file; raise a UserError if it does not exist or cannot be read."""
    import fsspec

    with _as_user_error(url, "read"):
        filesystem, path = fsspec.url_to_fs(url)
        filesystem.invalidate_cache()  # fsspec caches listings, and other machines write too
        content: bytes = filesystem.cat_file(path)
    return content


def remove(url: str) -> None:
    """Remove a file if it exists; raise a UserError if the storage refuses it."""
    import fsspec

    with _as_user_error(url, "removed"), suppress(FileNotFoundError):
        filesystem, path = fsspec.url_to_fs(url)
        filesystem.rm_file(path)


@contextmanager
def _as_user_error(url: str, what: str) -> Iterator[None]:
    """Turn any exception of a storage library into a message; each library has its own exceptions."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{url}: cannot be {what} ({reason}). Does it exist, is the package for it installed, and does this "
            "machine have permission? docs/scaling.md says where credentials come from."
        ) from None
