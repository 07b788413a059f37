"""Takes the workspace; gives MLflow the runs and the registered version that it lacks, and prints which."""

from pathlib import Path

import typer

EXAMPLES = """
Examples:

dvc pull && speech-emotion publish

MLFLOW_TRACKING_URI=https://mlflow.example.org speech-emotion publish
"""


def publish() -> None:
    """Bring MLflow to what the workspace holds: a run a training, a registered version of the package.

    `dvc repro` does it at its end; by hand it helps after `dvc pull` or when a server was away. What is there already,
    by content, stays as it is.
    """
    from speech_emotion.config.base import read_section
    from speech_emotion.config.data import CorpusSettings
    from speech_emotion.registry.publish import publish as bring

    for line in bring(Path.cwd(), corpus=read_section("corpus", CorpusSettings).name).lines:
        typer.echo(line)
