"""The command that compares two registered versions."""

from typing import Annotated

import typer

from speech_emotion.cli import tables
from speech_emotion.cli.options import corpus_name

Name = Annotated[str, typer.Argument(help="`champion`, `challenger`, or a version number.")]


def compare(first: Name, second: Name) -> None:
    """Compare two registered versions on the utterances that both were evaluated on.

    The difference is the first minus the second, with the 95 % interval of a bootstrap that draws the same words for
    both, and the p-value of the difference. Higher is better for accuracy, UAR and macro-F1, lower for the others.

    Examples
    --------
    * `speech-emotion compare challenger champion`
    * `speech-emotion compare 3 2`
    """
    from speech_emotion.config.base import read_section
    from speech_emotion.config.evaluation import EvaluateSettings
    from speech_emotion.registry.compare_versions import compare as run

    versions, found, refused = run(corpus_name(None), (first, second), read_section("evaluate", EvaluateSettings))
    names = [f"version {version.number}" for version in versions]
    rows = [
        (
            row.protocol,
            row.metric,
            f"{row.first:.4f}",
            f"{row.second:.4f}",
            f"{row.difference.value:+.4f}",
            row.difference.interval.text("+.4f"),
            f"{row.difference.p:.4f}",
        )
        for row in found
    ]
    columns = ("protocol", "metric", *names, "difference", "95 %", "p")
    tables.write(columns, rows, title=" against ".join(names))
    for line in refused:
        typer.echo(f"not compared: {line}", err=True)
