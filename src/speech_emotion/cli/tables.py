"""Print tables: aligned columns on a terminal, tab-separated values with a header row in a pipe."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import typer


def write(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Print rows as a table on a terminal, else as tab-separated values below a header row."""
    if not sys.stdout.isatty():
        for row in chain([columns], rows):
            # a cell may contain line breaks and tabs
            typer.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns, title=title or None, title_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    if table.row_count:
        Console().print(table)


def commit(tags: Mapping[str, str]) -> str:
    """Return the commit in tags of MLflow, shortened; a `+` means that sources or settings differed from it."""
    found = tags.get("git.commit", "unknown")
    changed = "true" in (tags.get("git.source_dirty"), tags.get("git.params_dirty"))
    return "-" if found.startswith("unknown") else found[:8] + "+" * changed
