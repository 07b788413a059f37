"""Takes rows of text; gives a table where a person reads it, and lines with tabs where a program does."""

import sys
from collections.abc import Iterable, Sequence

import typer


def write(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Print rows: on a terminal as a table with named columns, else one line a row, tabs between its cells."""
    if not sys.stdout.isatty():
        for row in rows:
            # a reason may have lines and tabs of its own
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
