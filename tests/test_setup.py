"""scripts/setup.py: where it looks for packages, and what it makes of an environment beside installing them."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def setup(root: Path) -> dict[str, Any]:
    return runpy.run_path(str(root / "scripts" / "setup.py"))


def test_uv_looks_where_pip_was_told_to_look(
    setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url: https://one.example\nfind-links: /some/where\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://two.example https://three.example")
    monkeypatch.setenv("PIP_FIND_LINKS", "/first /second")
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)

    told = setup["as_pip_was_told"](sys.executable)

    assert told["UV_DEFAULT_INDEX"] == "https://one.example"
    assert told["UV_INDEX"] == "https://two.example https://three.example"
    assert told["UV_FIND_LINKS"] == "/first,/second"  # pip's variables count more than its files


def test_where_uv_was_told_to_look_itself_stays(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://one.example")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://other.example")

    assert setup["as_pip_was_told"](sys.executable)["UV_DEFAULT_INDEX"] == "https://other.example"


@pytest.mark.parametrize(("main", "further", "tries"), [(True, True, 1), (False, True, 2), (False, False, 2)])
def test_a_further_index_is_asked_for_what_the_main_one_lacks(
    setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, main: bool, further: bool, tries: int
) -> None:
    asked = tmp_path / "asked"
    asked.touch()
    uv = tmp_path / "uv"
    uv.write_text(
        f"#!/bin/sh\necho x >>{asked}\n"
        f'if [ -z "$UV_INDEX" ]; then exit {0 if main else 1}; else exit {0 if further else 1}; fi\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://two.example")
    monkeypatch.delenv("UV_INDEX", raising=False)

    assert setup["by_uv"](sys.executable, [str(uv)]) is (main or further)
    assert len(asked.read_text().split()) == tries


def test_an_index_that_uv_was_told_of_itself_is_always_asked(
    setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\n[ "$UV_INDEX" = https://mine.example ]\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://two.example")
    monkeypatch.setenv("UV_INDEX", "https://mine.example")

    assert setup["by_uv"](sys.executable, [str(uv)])
