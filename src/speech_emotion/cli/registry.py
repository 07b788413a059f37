"""The command that lists registered versions, and the one that repairs a moved registry."""

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
    """List the registered versions (without a command): aliases, UAR, commit, and whether their files exist."""
    if context.invoked_subcommand is not None:
        return
    from speech_emotion.registry.promote import overview

    found = overview(corpus_name(corpus))
    uars = sorted({tag for version, _ in found.versions for tag in version.tags if tag.endswith(".uar")})
    rows = [
        (
            str(version.number),
            ", ".join(version.aliases) or "-",
            *(version.tags.get(tag, "-") for tag in uars),
            version.tags.get("git.commit", "-")[:8],
            version.package_digest[:12] or "-",
            "found" if exists else "gone",
        )
        for version, exists in found.versions
    ]
    columns = ("version", "aliases", *(tag.replace(".uar", " UAR") for tag in uars), "commit", "package", "files")
    tables.write(columns, rows, title=found.name)
    for line in found.lines:
        typer.echo(line, err=True)


@app.command()
def relocate() -> None:
    """Repair mlflow.db after this folder was moved, renamed or restored: MLflow stores absolute addresses."""
    from speech_emotion.registry.relocate import relocate as run

    folder, changed = run()
    typer.echo(f"{changed} addresses now point to {folder}" if changed else "nothing to repair")
