"""Print the entries of requirements.lock that `speech-emotion serve` needs, with hashes, for pip.

    python scripts/serving_requirements.py > requirements.txt
    python scripts/serving_requirements.py mlflow parquet > requirements.txt    # and these extras of pyproject.toml

The lock file names the parents of each package, so dependencies are followed without an index.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(*extras: str) -> None:
    """Print the entries."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    optional = project["project"]["optional-dependencies"]
    if unknown := set(extras) - set(optional):
        sys.exit(f"error: pyproject.toml has no extra {', '.join(sorted(unknown))}; it has {', '.join(optional)}.")
    roots = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(requirement for extra in ("serve", *extras) for requirement in optional[extra]),
    ]
    # a package may have one entry for each version of Python
    entries = [entry.rstrip() for entry in re.split(r"\n(?=\w)", (ROOT / "requirements.lock").read_text())]
    needed = {name(root) for root in roots}
    if missing := needed - {name(entry) for entry in entries}:
        sys.exit(f"error: requirements.lock: has no {', '.join(sorted(missing))}. Run `make lock`.")
    while more := {name(entry) for entry in entries if parents(entry) & needed} - needed:
        needed |= more
    print("\n".join(entry for entry in entries if name(entry) in needed))


def name(entry: str) -> str:
    """Return the name of the package that a requirement or an entry names."""
    return normal(re.split(r"[\s=<>;\[]", entry, maxsplit=1)[0])


def parents(entry: str) -> set[str]:
    """Return the parents of a package, from the comment below its hashes."""
    _, _, via = entry.partition("# via")
    return {normal(one) for one in re.findall(r"^\s*(?:#\s+)?([\w.-]+)", via, flags=re.MULTILINE)}


def normal(distribution: str) -> str:
    """Return the normalized name of a distribution."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


if __name__ == "__main__":
    main(*sys.argv[1:])
