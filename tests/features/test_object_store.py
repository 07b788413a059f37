"""Files at fsspec URLs: in a folder and in a bucket of an S3 server."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from helpers import services
from speech_emotion.core.errors import UserError
from speech_emotion.features import object_store


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with services.s3("team") as address, pytest.MonkeyPatch.context() as patch:
        services.use_s3(address, patch)
        yield "s3://team"


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (
        f"{request.getfixturevalue('bucket')}/{tmp_path.name}" if request.param == "bucket" else f"file://{tmp_path}/"
    )


def test_put_fetch_and_remove(place: str) -> None:
    url = object_store.join(place, "data/tess/features", "recorded-00000.parquet")

    object_store.put(url, b"before")
    object_store.put(url, b"after")
    assert object_store.fetch(url) == b"after"

    object_store.remove(url)
    object_store.remove(url)
    with pytest.raises(UserError, match=r"recorded-00000\.parquet: cannot be read"):
        object_store.fetch(url)


def test_file_of_another_process_is_seen(place: str) -> None:
    object_store.put(object_store.join(place, "first"), b"1")
    storage, folder = fsspec.url_to_fs(place)
    assert len(storage.ls(folder)) == 1
    script = "import sys; from speech_emotion.features.object_store import put; put(sys.argv[1], b'2')"
    subprocess.run([sys.executable, "-c", script, object_store.join(place, "second")], check=True)

    assert object_store.fetch(object_store.join(place, "second")) == b"2"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nowhere://team/x", "Protocol not known: nowhere"),
        ("gs://team/x", "gcsfs"),
        ("file:///proc/here/x", "/proc/here"),
    ],
)
def test_unusable_storage_is_one_message(url: str, reason: str) -> None:
    with pytest.raises(UserError, match=r"cannot be written .*docs/scaling\.md") as error:
        object_store.put(url, b"x")

    assert str(error.value).startswith(f"{url}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_credentials_are_one_message(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    services.forget_connections()

    with pytest.raises(UserError, match=r"cannot be written .*credentials"):
        object_store.put(object_store.join(bucket, "x"), b"x")
