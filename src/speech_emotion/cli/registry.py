"""The command that lists registered versions."""

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import CorpusOption, corpus_name


def registry(corpus: CorpusOption = None) -> None:
    """List the registered versions: aliases, UAR, commit, and whether their files exist.

    Examples
    --------
    * `speech-emotion registry`
    * `speech-emotion registry --corpus demo`
    """
    from speech_emotion.registry.promote import list_versions

    found, remarks = list_versions(corpus_name(corpus))
    uars = sorted({tag for version, _ in found for tag in version.tags if tag.endswith(".uar")})
    rows = [
        (
            str(version.number),
            ", ".join(version.aliases) or "-",
            *(version.tags.get(tag, "-") for tag in uars),
            version.tags.get("git.commit", "-")[:8],
            version.package_digest[:12] or "-",
            "found" if exists else "gone",
        )
        for version, exists in found
    ]
    columns = ("version", "aliases", *(tag.replace(".uar", " UAR") for tag in uars), "commit", "package", "files")
    tables.write(columns, rows)
    for line in remarks:
        typer.echo(line, err=True)
