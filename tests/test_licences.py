"""Locked packages have a permissive licence, or THIRD_PARTY_LICENSES.md lists them."""

import importlib.metadata
import re
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PERMISSIVE = {"cnri python", "isc iscl", "llvm exception", "mit cmu", "python foundation"}.union(
    ("0bsd", "apache", "bsd", "cc0", "isc", "mit", "psf", "zlib")
)
"""Licences without words and numbers that vary between packages."""

SILENT = {
    "cleanlab": "Apache-2.0: its metadata has the whole text where the name belongs",
    "huey": "MIT: by the LICENSE in its wheel",
    "namex": "Apache-2.0: by the LICENSE in its wheel",
    "skops": "MIT: by the LICENSE in its wheel",
}
"""Permissive packages without a licence in their metadata."""

UNTOLD = {"", "UNKNOWN", "Dual License", "OSI Approved", "DFSG approved"}
"""Entries that name no licence."""


def locked() -> set[str]:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", lock, flags=re.MULTILINE)}


def installed() -> Iterator[tuple[str, Message]]:
    """Yield the locked packages that are installed, with their metadata."""
    names = locked()
    for found in importlib.metadata.distributions():
        name = canonicalize_name(found.metadata["Name"] or "")
        if name in names:
            yield name, found.metadata  # type: ignore[misc]


def named() -> set[str]:
    text = (ROOT / "THIRD_PARTY_LICENSES.md").read_text(encoding="utf-8")
    return {canonicalize_name(name) for name in re.findall(r"`([\w.-]+)`", text)}


def stated(metadata: Message) -> list[str]:
    """Return the licence of a distribution: its expression, or its licence field and classifiers."""
    if expression := metadata.get("License-Expression"):
        return [expression]
    classifiers = [one.split(" :: ")[-1] for one in metadata.get_all("Classifier", []) if one.startswith("License ::")]
    own = metadata.get("License", "").strip()
    return [one for one in (own, *classifiers) if one not in UNTOLD and "\n" not in one]


def permissive(statement: str) -> bool:
    """Return whether every part of a statement is permissive, alternatives included."""
    parts = re.split(r"\b(?:and|or|with)\b|\|", statement, flags=re.IGNORECASE)
    noise = r"\b(?:new|clause|software|licen[cs]e|version|\d+(?:\.\d+)?)\b|[-,()]"
    return all(" ".join(re.sub(noise, " ", part.lower()).split()) in PERMISSIVE for part in parts)


def test_dependencies_are_permissive_or_listed() -> None:
    known = named() | set(SILENT)
    found = {name: stated(metadata) for name, metadata in installed()}

    assert found
    unknown = {
        name: " / ".join(said) or "its metadata names no licence"
        for name, said in found.items()
        if name not in known and not (said and all(map(permissive, said)))
    }
    assert unknown == {}, "THIRD_PARTY_LICENSES.md has to name these, with what their licences mean"


def test_exceptions_are_current() -> None:
    assert set(SILENT) <= locked()
    assert [name for name, metadata in installed() if name in SILENT and stated(metadata)] == []
