"""The command that syncs results to MLflow."""

from pathlib import Path

import typer

from speech_emotion.cli.options import corpus_name


def publish() -> None:
    """Sync results to MLflow: a run for every training, and a registered version of the package.

    The last stage of `dvc repro` does the same. Call it after `dvc pull`, or when a server was away. What MLflow has
    already, by content, is not sent again.

    Examples
    --------
    * `dvc pull && speech-emotion publish`
    * `MLFLOW_TRACKING_URI=https://mlflow.example.org speech-emotion publish`
    """
    from speech_emotion.registry.publish import publish as sync

    for line in sync(Path.cwd(), corpus=corpus_name(None)).lines:
        typer.echo(line)
