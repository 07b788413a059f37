"""Takes the names of two models in MLflow; gives a table of their figures and of how surely they differ."""

from typing import Annotated

import typer

from speech_emotion.cli import tables

EXAMPLES = """
Examples:

speech-emotion compare challenger champion

speech-emotion compare 3 2

speech-emotion compare 32e5477c ebae72ce
"""

Name = Annotated[
    str,
    typer.Argument(
        help="`champion`, `challenger`, a version's number, or the beginning of a run's id.", show_default=False
    ),
]


def compare(first: Name, second: Name) -> None:
    """Compare two registered versions, or two runs, on the utterances that both were judged by.

    The difference is the first less the second, with the 95 % interval of a bootstrap that draws the same words for
    both; a small p says that it is hardly chance. Accuracy, UAR and macro-F1 are better high, the others low.
    """
    from speech_emotion.config.base import read_section
    from speech_emotion.config.data import CorpusSettings
    from speech_emotion.config.evaluation import EvaluateSettings
    from speech_emotion.registry.compare_versions import compare as compared

    corpus, settings = read_section("corpus", CorpusSettings), read_section("evaluate", EvaluateSettings)
    found = compared(corpus.name, first, second, settings)
    rows = [
        (
            line.protocol,
            line.metric,
            f"{line.first:.4f}",
            f"{line.second:.4f}",
            f"{line.difference.value:+.4f}",
            f"{line.difference.interval.low:+.4f} to {line.difference.interval.high:+.4f}",
            f"{line.difference.p:.4f}",
        )
        for line in found.lines
    ]
    columns = ("protocol", "metric", found.first, found.second, "difference", "95 %", "p")
    tables.write(columns, rows, title=f"{found.first} against {found.second}")
    for line in found.refused:
        typer.echo(f"not compared: {line}", err=True)
