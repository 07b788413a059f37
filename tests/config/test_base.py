import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from speech_emotion.config.base import parse_section, read_params, section_or
from speech_emotion.config.data import CorpusSettings
from speech_emotion.config.params import Settings, read_settings
from speech_emotion.core.errors import UserError

OWN = CorpusSettings(name="own", kind="demo", source="nowhere")


@pytest.fixture(scope="module")
def committed(root: Path) -> dict[str, Any]:
    """The contents of params.yaml."""
    return read_params(root / "params.yaml")


@pytest.fixture
def values(committed: dict[str, Any]) -> dict[str, Any]:
    """A copy of them, to change."""
    return copy.deepcopy(committed)


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a params.yaml in the working folder, which is to be written."""
    monkeypatch.chdir(tmp_path)
    return Path("params.yaml")


def change(values: Any, key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values[section]
    values[int(last) if isinstance(values, list) else last] = value


def read(path: Path, values: dict[str, Any]) -> Settings:
    YAML(typ="safe").dump(values, path)
    return read_settings(path)


def message(path: Path, values: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        read(path, values)
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("corpus.kind", "iemocap", "found \"iemocap\". Input should be 'tess'"),
        ("corpus.name", "My TESS", 'found "My TESS". String should match pattern'),
        ("download.connections", 0, "found 0. Input should be greater than or equal to 1."),
        ("download.timeout_seconds", float("inf"), "found Infinity. Input should be a finite number."),
        ("featurize.n_fft", True, "found true. Input should be a valid integer."),
        ("split.protocols.1", "words", "found \"words\". Input should be 'random', 'word'"),
        ("train.epochs", 40.5, "found 40.5. Input should be a valid integer."),
        ("train.epoch", 40, "unknown key. Did you mean 'epochs'?"),
        ("train.network.dropout.zzz", 1, "unknown key. Known: lstm, dense."),
        ("train.network.pooling", "x" * 999, 'found "xxx'),
        ("train.early_stopping", {"patience": 3, "patient": 3}, ""),
        ("augment.speed", [0.8], ""),
        ("augment.speed", [1.2, 0.8], "the lower end first"),
        ("trian", {}, "unknown key. Did you mean 'train'?"),
    ],
)
def test_mistake_is_one_line(params: Path, values: dict[str, Any], key: str, value: Any, expected: str) -> None:
    change(values, key, value)

    line, *others = message(params, values).splitlines()

    assert line.startswith(f"params.yaml: {key}")
    assert expected in line
    assert len(line) < 250
    assert all(other.startswith(f"params.yaml: {key}") for other in others)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [("featurize.hop_length", 500, "hop_length (500) of at most win_length (400)"), ("augment.warp", [0.1, 1], "warp")],
)
def test_rule_of_a_section(params: Path, values: dict[str, Any], key: str, value: Any, rule: str) -> None:
    change(values, key, value)

    assert message(params, values).startswith(f"params.yaml: {key.split('.')[0]}: allowed: a {rule}")


def test_all_mistakes_are_reported(params: Path, values: dict[str, Any]) -> None:
    change(values, "featurize.deltas", 9)
    del values["train"]["epochs"], values["prepare"]

    assert message(params, values).splitlines() == [
        "params.yaml: prepare: is missing.",
        "params.yaml: featurize.deltas: found 9. Input should be 0, 1 or 2.",
        "params.yaml: train.epochs: is missing.",
    ]


def keys(values: Any, prefix: str = "") -> Iterator[str]:
    """Yield the name of every key, that of a mapping before those in it."""
    for key, value in values.items() if isinstance(values, dict) else ():
        yield f"{prefix}{key}"
        yield from keys(value, f"{prefix}{key}.")


@pytest.mark.parametrize("wrong", [3, "x", [], {}, None, [3], ["x"], {"x": 3}, [1, 2, 3]], ids=repr)
def test_any_wrong_value_is_one_message(values: dict[str, Any], wrong: Any) -> None:
    names = [key for key in keys(values) if not key.startswith("tune.space.")]
    refused: dict[str, str] = {}
    for key in names:
        changed = copy.copy(values) | {key.split(".")[0]: copy.deepcopy(values[key.split(".")[0]])}
        change(changed, key, wrong)
        try:
            parse_section("", Settings, changed)
        except UserError as error:
            refused[key] = str(error)
    assert len(refused) > len(names) / 4
    assert all(text.startswith(f"params.yaml: {key.split('.')[0]}") for key, text in refused.items())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "found null"),
        (b"- 1\n", "found [1]"),
        (b"corpus\n", 'found "corpus"'),
        (b"corpus: \xff\n", "is not UTF-8 text"),
        (b"corpus: \x00\n", "not valid YAML: unacceptable character"),
        (b"corpus:\n  a: [1\n", "line 3: not valid YAML: "),
        (b"corpus:\n\ta: 1\n", "line 2: not valid YAML: "),
        (b"corpus:\n  a: 1\n  a: 2\n", 'line 3: not valid YAML: found duplicate key "a"'),
    ],
)
def test_unreadable_file_is_one_line(params: Path, content: bytes, expected: str) -> None:
    params.write_bytes(content)

    with pytest.raises(UserError) as error:
        read_params(params)

    assert str(error.value).startswith("params.yaml: ")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_section_or_default(params: Path) -> None:
    assert section_or(OWN, "corpus", params) is OWN
    params.write_text("lr: 0.1\n")
    assert section_or(OWN, "corpus", params) is OWN
    params.write_text("corpus: {name: c, kind: tess, source: d}\nlr: 0.1\n")
    assert section_or(OWN, "corpus", params).name == "c"
    params.write_text("corpus: {name: 3, kind: tess, source: d}\n")
    with pytest.raises(UserError, match=r"corpus\.name: found 3"):
        section_or(OWN, "corpus", params)
