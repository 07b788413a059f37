"""Print the entries of requirements.lock that `speech-emotion serve` needs, with hashes, for pip.

    python scripts/serving_requirements.py > requirements.txt
    python scripts/serving_requirements.py registry > requirements.txt    # and MLflow, for models:/…
    python scripts/serving_requirements.py log > requirements.txt         # and pyarrow, for --log-predictions

The lock file names the parents of each package, so dependencies are followed without an index.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER = ("fastapi", "filelock", "pebble", "prometheus-client", "psutil", "threadpoolctl", "typer", "uvicorn")
"""Imports of the server beside those of prediction."""

EXTRAS = {"registry": ("mlflow",), "log": ("pyarrow",)}
"""Optional additions, by argument."""

BUILD = ("setuptools",)
"""Needed to build this library's wheel."""


def main(*extras: str) -> None:
    """Print the entries."""
    roots = {*prediction(), *SERVER, *BUILD, *(root for extra in extras for root in EXTRAS[extra])}
    # a package may have one entry for each version of Python
    entries = [entry.rstrip() for entry in re.split(r"\n(?=\w)", (ROOT / "requirements.lock").read_text())]
    needed = {normal(root) for root in roots}
    if missing := needed - {name(entry) for entry in entries}:
        sys.exit(f"error: requirements.lock: has no {', '.join(sorted(missing))}. Run `make lock`.")
    while more := {name(entry) for entry in entries if parents(entry) & needed} - needed:
        needed |= more
    print("\n".join(entry for entry in entries if name(entry) in needed))


def prediction() -> tuple[str, ...]:
    """Return the distributions that prediction imports, as models/package.py lists them."""
    tree = ast.parse((ROOT / "src" / "speech_emotion" / "models" / "package.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "REQUIRED_DISTRIBUTIONS" and node.value:
            found: tuple[str, ...] = ast.literal_eval(node.value)
            return found
    raise LookupError("REQUIRED_DISTRIBUTIONS")


def name(entry: str) -> str:
    """Return the name of the package that an entry pins."""
    return normal(re.split(r"[\s=;\[]", entry, maxsplit=1)[0])


def parents(entry: str) -> set[str]:
    """Return the parents of a package, from the comment below its hashes."""
    _, _, via = entry.partition("# via")
    return {normal(one) for one in re.findall(r"^\s*(?:#\s+)?([\w.-]+)", via, flags=re.MULTILINE)}


def normal(distribution: str) -> str:
    """Return the normalized name of a distribution."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


if __name__ == "__main__":
    main(*sys.argv[1:])
