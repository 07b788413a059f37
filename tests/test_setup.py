"""scripts/setup.py uses uv with the package sources that pip is configured with."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def setup(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://two.example https://three.example")
    return runpy.run_path(str(root / "scripts" / "setup.py"))


def test_uv_uses_the_sources_of_pip(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url: https://one.example\nfind-links: /some/where\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_FIND_LINKS", "/first /second")

    sources = setup["pip_sources"](sys.executable)

    assert sources["UV_DEFAULT_INDEX"] == "https://one.example"
    assert sources["UV_INDEX"] == "https://two.example https://three.example"
    assert sources["UV_FIND_LINKS"] == "/first,/second"  # variables take precedence over files
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://other.example")
    assert setup["pip_sources"](sys.executable)["UV_DEFAULT_INDEX"] == "https://other.example"


@pytest.mark.parametrize(
    ("main", "extra", "own", "tries"),
    [
        (True, True, None, 1),
        (False, True, None, 2),
        (False, False, None, 2),
        (False, True, "https://mine.example", 1),  # an index that is set for uv is always used
    ],
)
def test_extra_index_is_used_second(
    setup: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    main: bool,
    extra: bool,
    own: str | None,
    tries: int,
) -> None:
    calls, uv = tmp_path / "calls", tmp_path / "uv"
    status = f'if [ -z "$UV_INDEX" ]; then exit {int(not main)}; else exit {int(not extra)}; fi'
    uv.write_text(f"#!/bin/sh\necho x >>{calls}\n{status}\n")
    uv.chmod(0o755)
    if own:
        monkeypatch.setenv("UV_INDEX", own)

    assert setup["by_uv"](sys.executable, [str(uv)]) is (main or extra)
    assert len(calls.read_text().split()) == tries
