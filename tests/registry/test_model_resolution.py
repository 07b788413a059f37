import asyncio
import shutil
from pathlib import Path

import pytest

from helpers import released, tracked
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder
from speech_emotion.registry.model_resolution import Model, choose, fetch, resolve_apart
from speech_emotion.registry.publish import publish
from speech_emotion.registry.versions import PACKAGE_DIGEST

pytest_plugins = ("helpers.mlflow_fixtures",)

CHALLENGER = f"models:/{tracked.MODEL}@challenger"


@pytest.fixture
def registered(three: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A workspace with three versions as the working folder, with an empty cache."""
    monkeypatch.chdir(three)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return three


@pytest.fixture
def published(workspace: Path) -> Path:
    """A workspace with one version, for changing."""
    tracked.package(workspace)
    publish(workspace, corpus=tracked.CORPUS)
    return workspace


@pytest.mark.parametrize("uri", [CHALLENGER, f"models:/{tracked.MODEL}/3"])
def test_fetch_returns_the_package(registered: Path, uri: str) -> None:
    expected = digest_folder(registered / "models" / tracked.CORPUS / "package")

    model = fetch(uri)

    assert digest_folder(model.folder) == expected
    assert (model.name, model.version, model.digest, model.folder.name) == (tracked.MODEL, "3", expected, expected)


def test_resolves_in_another_process(registered: Path) -> None:
    assert asyncio.run(resolve_apart(CHALLENGER)) == fetch(CHALLENGER)
    with pytest.raises(UserError, match="there is no version '7'"):
        asyncio.run(resolve_apart(f"models:/{tracked.MODEL}/7"))


def test_cache_serves_without_the_registry(published: Path) -> None:
    model = fetch(CHALLENGER)
    shutil.rmtree(published / "mlruns")

    assert fetch(CHALLENGER) == model
    assert (model.folder / "package.json").exists()


MISTAKES = [
    ("models:/", "not the URI of a registered model. Write models:/<name>@<alias> or models:/<name>/<number>."),
    (f"models:/{tracked.MODEL}/latest", "not the URI of a registered model"),
    ("models:/other@challenger", f"no such registered model at .*Registered: {tracked.MODEL}"),
    (f"models:/{tracked.MODEL}@champion", "there is no alias 'champion'. Versions: 1, 2, 3. Aliases: challenger."),
    (f"models:/{tracked.MODEL}/7", "there is no version '7'. Versions: 1, 2, 3."),
]


@pytest.mark.parametrize(("uri", "message"), MISTAKES)
def test_wrong_uri_lists_what_exists(registered: Path, uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fetch(uri)


def test_changed_package_is_refused(published: Path, tmp_path: Path) -> None:
    for file in (published / "mlruns").rglob("package/package.json"):
        file.write_text(file.read_text().replace("tiny", "huge"))

    with pytest.raises(UserError, match="not the one that was registered"):
        fetch(CHALLENGER)
    assert not list((tmp_path / "cache").rglob("package.json"))


def test_changed_cache_is_replaced(registered: Path) -> None:
    folder = fetch(CHALLENGER).folder
    (folder / "package.json").write_text("{}")

    assert digest_folder(fetch(CHALLENGER).folder) == folder.name


def test_version_without_a_valid_digest(published: Path) -> None:
    tag = {"key": PACKAGE_DIGEST, "value": str(published / "models" / tracked.CORPUS / "package")}
    tracked.client().set_model_version_tag(tracked.MODEL, "1", **tag)
    other = tracked.client().create_model_version(tracked.MODEL, source=str(published / "mlruns" / "x"))

    for number in (1, other.version):
        with pytest.raises(UserError, match="has no package"):
            fetch(f"models:/{tracked.MODEL}/{number}")


def test_built_in_model_without_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")

    model = choose(None)

    assert (model, model.title) == (Model(), "the built-in model")
    assert model.versions == {"model": "", "model_version": "", "package_digest": model.recognizer.package.digest}
    with pytest.raises(UserError, match=r"no such registered model at .*Registered: none. Run `dvc repro`"):
        fetch(CHALLENGER)
    assert list(tmp_path.rglob("*")) == [tmp_path / "deeper"]
    # the settings of another project
    (tmp_path / "params.yaml").write_text("lr: 0.1\n")
    assert choose(None) == Model()


@pytest.fixture
def corpus(workspace: Path) -> Path:
    """A workspace whose corpus is fully named, with a version."""
    (workspace / "params.yaml").write_text(f"corpus: {{name: {tracked.CORPUS}, kind: demo, source: data/incoming}}\n")
    released.release(workspace, seed=1, skill=0.9)
    return workspace


def test_built_in_model_without_a_champion(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(None) == Model()

    for uri in ("localhost:5000", "http://127.0.0.1:9"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert choose(None) == Model()


@pytest.mark.slow
def test_champion_of_the_workspace(corpus: Path) -> None:
    released.ask(1, reason="the first that we trust")

    model = choose(None)

    assert model.title == f"{tracked.MODEL}, version 1"
    assert model.recognizer.package.digest == model.versions["package_digest"]
    assert model.recognizer.package.description.corpus != "tess"
