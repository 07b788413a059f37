"""Print the entries of requirements.lock that `speech-emotion serve` needs, with hashes, for pip.

    python scripts/serving_requirements.py > requirements.txt
    python scripts/serving_requirements.py registry > requirements.txt    # also models:/… from MLflow
    python scripts/serving_requirements.py log > requirements.txt         # also --log-predictions

The lock names for each package who requires it, so no index is needed.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER = ("fastapi", "filelock", "pebble", "prometheus-client", "psutil", "threadpoolctl", "typer", "uvicorn")
"""What the server imports beside what prediction imports."""

EXTRAS = {"registry": ("mlflow",), "log": ("pyarrow",)}
"""What can be asked for beside."""

BUILD = ("setuptools",)
"""What builds this library's own wheel."""


def main(*extras: str) -> None:
    """Print the entries."""
    roots = {*prediction(), *SERVER, *BUILD, *(root for extra in extras for root in EXTRAS[extra])}
    # a package may have several entries, for several versions of Python
    entries = [entry.rstrip() for entry in re.split(r"\n(?=\w)", (ROOT / "requirements.lock").read_text())]
    needed = {normal(root) for root in roots}
    if missing := needed - {name(entry) for entry in entries}:
        sys.exit(f"error: requirements.lock: has no {', '.join(sorted(missing))}. `make lock` writes it anew.")
    while more := {name(entry) for entry in entries if parents(entry) & needed} - needed:
        needed |= more
    print("\n".join(entry for entry in entries if name(entry) in needed))


def prediction() -> tuple[str, ...]:
    """Return the distributions that prediction imports, from where the package module lists them."""
    tree = ast.parse((ROOT / "src" / "speech_emotion" / "models" / "package.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "REQUIRED_DISTRIBUTIONS" and node.value:
            found: tuple[str, ...] = ast.literal_eval(node.value)
            return found
    raise LookupError("REQUIRED_DISTRIBUTIONS")


def name(entry: str) -> str:
    """Return the package that an entry pins."""
    return normal(re.split(r"[\s=;\[]", entry, maxsplit=1)[0])


def parents(entry: str) -> set[str]:
    """Return who needs the package, by the comment below its hashes."""
    _, _, via = entry.partition("# via")
    return {normal(one) for one in re.findall(r"^\s*(?:#\s+)?([\w.-]+)", via, flags=re.MULTILINE)}


def normal(distribution: str) -> str:
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


if __name__ == "__main__":
    main(*sys.argv[1:])
