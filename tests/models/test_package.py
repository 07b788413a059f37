"""The package format: written, read, validated, assembled with evaluation results."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.tiny_package import make_package
from speech_emotion.config.serving import PackageSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file
from speech_emotion.models.package import REQUIRED_DISTRIBUTIONS, Package, assemble

FILES = {
    "LICENSE.md",
    "architecture.json",
    "graph.onnx",
    "model.weights.h5",
    "normalization.json",
    "package.json",
    "requirements.txt",
}
KERAS = {"architecture.json", "model.weights.h5"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_package(tmp_path / "package", temperature=1.5)
    return tmp_path / "package"


def test_requirements_are_pinned(folder: Path) -> None:
    requirements = Package.load(folder).requirements

    assert [line.partition("==")[0] for line in requirements] == list(REQUIRED_DISTRIBUTIONS)
    assert all("==" in line and "+" not in line for line in requirements)


@pytest.mark.parametrize("name", sorted(FILES - {"package.json"}))
def test_missing_and_altered_files_are_named(folder: Path, name: str) -> None:
    with open(folder / name, "ab") as file:
        file.write(b" ")
    with pytest.raises(UserError, match=f"{name}: does not have the SHA-256"):
        Package.load(folder)

    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: is missing"):
        Package.load(folder)


def set_key(key: str, value: object) -> Callable[[dict], dict]:
    return lambda content: content | {key: value}


def without(key: str) -> Callable[[dict], dict]:
    return lambda content: {name: value for name, value in content.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_key("format", 1), "has format 1, and this version of speech-emotion reads format 2"),
        (without("format"), "has format None, and this version of speech-emotion reads format 2"),
        (lambda _: [], "has format None, and this version of speech-emotion reads format 2"),
        (without("labels"), "labels: Field required. The package is damaged"),
        (set_key("labels", ["a", "a"]), "Value error, each label once. The package is damaged"),
        (set_key("temperature", 0), "temperature: Input should be greater than 0"),
        (set_key("temperature", "hot"), "temperature: Input should be a valid number"),
        (set_key("surplus", 1), "surplus: Extra inputs are not permitted"),
        (set_key("files", {"../../x": "0"}), "Value error, exactly the files"),
        (
            set_key("spec_digest", "0" * 64),
            "its network was trained on features of another version of the feature code",
        ),
    ],
)
def test_invalid_description_is_refused(folder: Path, change: Callable[[dict], object], message: str) -> None:
    path = folder / "package.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))

    with pytest.raises(UserError) as error:
        Package.load(folder)

    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 200_000])
def test_description_must_be_json(folder: Path, content: bytes) -> None:
    (folder / "package.json").write_bytes(content)

    with pytest.raises(UserError, match="cannot be read as JSON, the package is damaged"):
        Package.load(folder)


LIMITS = PackageSettings(min_seconds=0.5, max_seconds=30.0)


def test_assembling(folder: Path, tmp_path: Path) -> None:
    (folder / "history.csv").write_text("epoch,loss\n")
    target, evaluation = tmp_path / "out" / "package", {"speaker": {"mean": {"uar": 0.5}}}

    package = assemble(
        folder, evaluation, target, licence="Weights: **CC0**.", limits=LIMITS, beside={"MODEL_CARD.md": "# Card\n"}
    )

    loaded = Package.load(target)
    assert {path.name for path in target.iterdir()} == FILES - KERAS | {"evaluation", "MODEL_CARD.md"}
    assert loaded.evaluation() == evaluation
    assert loaded.description.limits == LIMITS
    assert (loaded.description, loaded.digest) == (package.description, package.digest)
    assert "Weights: **CC0**." in (target / "LICENSE.md").read_text()
    for name in FILES - KERAS - {"package.json", "LICENSE.md"}:
        assert digest_file(target / name) == digest_file(folder / name)


def test_assembling_a_damaged_package_writes_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "graph.onnx").write_bytes(b"")

    with pytest.raises(UserError, match="SHA-256"):
        assemble(folder, {}, tmp_path / "out" / "package", licence="", limits=LIMITS, beside={})

    assert not (tmp_path / "out").exists()
