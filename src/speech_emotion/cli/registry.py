"""Takes a corpus; gives its registered versions at a glance, and mends a moved registry."""

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import CorpusOption, corpus_name

EXAMPLES = """
Examples:

speech-emotion registry

speech-emotion registry --corpus demo

speech-emotion registry relocate
"""

app = typer.Typer(name="registry", rich_markup_mode="markdown")


@app.callback(invoke_without_command=True, epilog=EXAMPLES)
def registry(context: typer.Context, corpus: CorpusOption = None) -> None:
    """List the registered versions: aliases, figures, commit, and whether their files are there."""
    if context.invoked_subcommand is not None:
        return
    from speech_emotion.registry.promote import glance

    found = glance(corpus_name(corpus))
    measured = sorted({tag for one, _ in found.versions for tag in one.tags if tag.endswith(".uar")})
    rows = [
        (
            str(one.number),
            ", ".join(one.aliases) or "-",
            *(one.tags.get(tag, "-") for tag in measured),
            one.tags.get("git.commit", "-")[:8],
            one.package_digest[:12] or "-",
            "there" if there else "gone",
        )
        for one, there in found.versions
    ]
    columns = ("version", "aliases", *(tag.replace(".uar", " UAR") for tag in measured), "commit", "package", "files")
    tables.write(columns, rows, title=found.name)
    for line in found.lines:
        typer.echo(line, err=True)


@app.command()
def relocate() -> None:
    """Mend mlflow.db after this folder was moved, renamed or restored: MLflow keeps absolute addresses of artifacts."""
    from speech_emotion.registry.relocate import relocate as mend

    done = mend()
    typer.echo(f"{done.changed} addresses lead to {done.folder} now" if done.changed else "nothing to mend")
    for address in done.lost:
        typer.echo(f"leads nowhere, and nothing of it is here: {address}", err=True)
