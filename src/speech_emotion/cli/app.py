"""`speech-emotion app`: serve the web page."""

from pathlib import Path
from typing import Annotated

import typer

from speech_emotion.cli.options import ChosenModel

EXAMPLES = """
Examples:

speech-emotion app

speech-emotion app --model models/tess/package --keep recordings-of-today
"""


def app(
    model: ChosenModel = None,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 7860,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep recordings and answers there. Without it, none is kept."),
    ] = None,
) -> None:
    """Open a page that shows what is heard in a voice: record it or drop a file.

    Everything stays on this machine: the page loads nothing from elsewhere, and calls nobody. From another machine a
    browser lets the page use its microphone only over HTTPS, which a proxy in front of it can add.
    """
    from speech_emotion.app.page import serve
    from speech_emotion.registry.model_resolution import choose

    choice = choose(model)
    typer.echo(f"the model: {choice.words}")
    serve(choice, host=host, port=port, kept=keep, say=lambda address: typer.echo(f"the page: {address}"))
