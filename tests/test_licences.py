"""What the lock installs is under a permissive licence, or THIRD_PARTY_LICENSES.md names it."""

import importlib.metadata
import re
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PERMISSIVE = {
    "0bsd",
    "apache",
    "bsd",
    "cc0",
    "cnri python",
    "isc",
    "isc iscl",
    "llvm exception",
    "mit",
    "mit cmu",
    "psf",
    "python foundation",
    "zlib",
}
"""Licences without the words and numbers that everybody writes in another way."""

SILENT = {
    "cleanlab": "Apache-2.0: its metadata has the whole text where the name belongs",
    "huey": "MIT: by the LICENSE in its wheel",
    "namex": "Apache-2.0: by the LICENSE in its wheel",
    "skops": "MIT: by the LICENSE in its wheel",
}
"""Permissive, though their metadata does not say so."""

UNTOLD = {"", "UNKNOWN", "Dual License", "OSI Approved", "DFSG approved"}
"""What stands in the place of a licence and names none."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> set[str]:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return {normal(name) for name in re.findall(r"^([\w.-]+)==", lock, flags=re.MULTILINE)}


def installed() -> Iterator[tuple[str, Message]]:
    """Give what is installed of the lock, by normalised name, with its metadata."""
    names = locked()
    for found in importlib.metadata.distributions():
        name = normal(found.metadata["Name"] or "")
        if name in names:
            yield name, found.metadata  # type: ignore[misc]


def named() -> set[str]:
    text = (ROOT / "THIRD_PARTY_LICENSES.md").read_text(encoding="utf-8")
    return {normal(name) for name in re.findall(r"`([\w.-]+)`", text)}


def stated(metadata: Message) -> list[str]:
    """Return what a distribution says of its licence: an expression, else a line of its own and classifiers."""
    if expression := metadata.get("License-Expression"):
        return [expression]
    classifiers = [one.split(" :: ")[-1] for one in metadata.get_all("Classifier", []) if one.startswith("License ::")]
    own = metadata.get("License", "").strip()
    return [one for one in (own, *classifiers) if one not in UNTOLD and "\n" not in one]


def permissive(statement: str) -> bool:
    """Whether every part of a statement is permissive, those between which one may choose too."""
    parts = re.split(r"\b(?:and|or|with)\b|\|", statement, flags=re.IGNORECASE)
    noise = r"\b(?:new|clause|software|licen[cs]e|version|\d+(?:\.\d+)?)\b|[-,()]"
    return all(" ".join(re.sub(noise, " ", part.lower()).split()) in PERMISSIVE for part in parts)


def test_every_dependency_is_permissive_or_named() -> None:
    known = named() | set(SILENT)
    found = {name: stated(metadata) for name, metadata in installed()}

    assert found
    unknown = {
        name: " / ".join(said) or "its metadata names no licence"
        for name, said in found.items()
        if name not in known and not (said and all(map(permissive, said)))
    }
    assert unknown == {}, "THIRD_PARTY_LICENSES.md has to name these, with what their licences mean"


def test_what_says_nothing_is_still_a_dependency_and_still_says_nothing() -> None:
    assert set(SILENT) <= locked()
    assert [name for name, metadata in installed() if name in SILENT and stated(metadata)] == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("MIT", True),
        ("Apache License, Version 2.0", True),
        ("3-Clause BSD License", True),
        ("ISC License (ISCL)", True),
        ("BSD-2-Clause AND Apache-2.0 WITH LLVM-exception", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("Apache-2.0 OR GPL-2.0-or-later", False),
        ("GPLv2 | EPLv1", False),
        ("GPLv2 with linking exception", False),
        ("Zope Public License", False),
        ("Free for non-commercial use", False),
    ],
)
def test_what_is_permissive(statement: str, expected: bool) -> None:
    assert permissive(statement) == expected
