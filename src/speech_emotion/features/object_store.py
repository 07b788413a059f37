"""Takes a URL that fsspec knows (s3://, gs://, abfs://, file://, …); puts whole files there, and brings them back.

Credentials, and the address of a storage other than its maker's, come from where fsspec looks for them: the environment
(FSSPEC_S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …) and ~/.config/fsspec.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from speech_emotion.core.errors import UserError


def join(url: str, *parts: str) -> str:
    """Return the URL of what lies below another."""
    return "/".join([url.rstrip("/"), *parts])


def put(url: str, content: bytes) -> None:
    """Write a file, and the folders above it.

    Raises
    ------
    UserError
        The storage does not take it.
    """
    import fsspec  # here: only a cluster's tasks need it

    with _told(url, "written"), fsspec.open(url, "wb") as file:
        file.write(content)


def bring(url: str) -> bytes:
    """Return a file's content.

    Raises
    ------
    UserError
        There is none, or the storage does not give it.
    """
    import fsspec

    with _told(url, "read"):
        filesystem, path = fsspec.url_to_fs(url)
        filesystem.invalidate_cache()  # it remembers what was there when it looked last; others write too
        content: bytes = filesystem.cat_file(path)
    return content


def remove(url: str) -> None:
    """Remove a file, if it is there.

    Raises
    ------
    UserError
        The storage does not do so.
    """
    import fsspec

    with _told(url, "written"), suppress(FileNotFoundError):
        filesystem, path = fsspec.url_to_fs(url)
        filesystem.rm_file(path)


@contextmanager
def _told(url: str, what: str) -> Iterator[None]:
    """Turn what a storage's library raises into a message; each has exceptions of its own."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{url}: cannot be {what} ({reason}). Does it exist, is the package for it installed, and may this "
            "machine use it? docs/scaling.md says where credentials come from."
        ) from None
