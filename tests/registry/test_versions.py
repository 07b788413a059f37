import shutil
from pathlib import Path

import pytest

from helpers import tracked
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder
from speech_emotion.registry import versions
from speech_emotion.registry.publish import publish

pytest_plugins = ("helpers.mlflow_fixtures",)


def register(folder: Path) -> None:
    tracked.package(folder)
    publish(folder, corpus=tracked.CORPUS)


@pytest.fixture
def registered(three: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A workspace with three versions as the working folder, with an empty cache."""
    monkeypatch.chdir(three)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return three


@pytest.mark.parametrize("uri", [f"models:/{tracked.MODEL}@challenger", f"models:/{tracked.MODEL}/3"])
def test_fetch_returns_the_package(registered: Path, uri: str) -> None:
    expected = digest_folder(registered / "models" / tracked.CORPUS / "package")

    folder = versions.fetch(uri)[1]

    assert digest_folder(folder) == expected
    assert folder.name == expected


def test_cache_serves_without_the_registry(workspace: Path) -> None:
    register(workspace)
    folder = versions.fetch(versions.uri(tracked.MODEL))[1]
    shutil.rmtree(workspace / "mlruns")

    assert versions.fetch(versions.uri(tracked.MODEL))[1] == folder
    assert (folder / "package.json").exists()


MISTAKES = [
    (
        "models:/",
        "not the URI of a registered model. Write models:/<name>@<alias> or models:/<name>/<number>.",
    ),
    (f"models:/{tracked.MODEL}/latest", "not the URI of a registered model"),
    ("models:/other@challenger", f"no such registered model at .*Registered: {tracked.MODEL}"),
    (f"models:/{tracked.MODEL}@champion", "there is no alias 'champion'. Versions: 1, 2, 3. Aliases: challenger."),
    (f"models:/{tracked.MODEL}/7", "there is no version '7'. Versions: 1, 2, 3."),
]


@pytest.mark.parametrize(("uri", "message"), MISTAKES)
def test_wrong_uri_lists_what_exists(registered: Path, uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        versions.fetch(uri)[1]


def test_fetch_creates_no_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UserError, match=r"no such registered model at .*Registered: none. Run `dvc repro`"):
        versions.fetch(versions.uri(tracked.MODEL))[1]

    assert list(tmp_path.iterdir()) == []


def test_changed_package_is_refused(workspace: Path) -> None:
    register(workspace)
    for file in (workspace / "mlruns").rglob("package/package.json"):
        file.write_text(file.read_text().replace("tiny", "huge"))

    with pytest.raises(UserError, match="not the one that was registered"):
        versions.fetch(versions.uri(tracked.MODEL))[1]
    assert not list(versions.cache().glob("*"))


def test_changed_cache_is_replaced(registered: Path) -> None:
    folder = versions.fetch(versions.uri(tracked.MODEL))[1]
    (folder / "package.json").write_text("{}")

    assert digest_folder(versions.fetch(versions.uri(tracked.MODEL))[1]) == folder.name


def test_version_without_a_valid_digest(workspace: Path) -> None:
    register(workspace)
    tag = {"key": versions.PACKAGE_DIGEST, "value": str(workspace / "models" / tracked.CORPUS / "package")}
    tracked.client().set_model_version_tag(tracked.MODEL, "1", **tag)

    other = tracked.client().create_model_version(tracked.MODEL, source=str(workspace / "mlruns" / "x"))

    for number in (1, other.version):
        with pytest.raises(UserError, match="has no package"):
            versions.fetch(f"models:/{tracked.MODEL}/{number}")
