"""`speech-emotion app`: serve the web page."""

from pathlib import Path
from typing import Annotated

import typer

from speech_emotion.cli.options import ChosenModel


def app(
    model: ChosenModel = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free port.")] = 7860,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Host name under which a proxy serves the page. Repeat for several."),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep recordings and predictions in this folder. Default: keep none."),
    ] = None,
) -> None:
    """Serve a web page that predicts the emotion of a recording or an uploaded file.

    Everything stays on this machine: neither the page nor the server contacts another host. On other machines, browsers
    record only over HTTPS, which a proxy can add: name its host with --allow-host.

    Examples
    --------
    * `speech-emotion app`
    * `speech-emotion app --model models/tess/package --keep recordings-of-today`
    """
    from speech_emotion.app.page import serve
    from speech_emotion.registry.model_resolution import choose

    chosen = choose(model)
    typer.echo(f"the model: {chosen.title}")
    serve(chosen, host=host, port=port, names=allow_host or [], kept=keep)
