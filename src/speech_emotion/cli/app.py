"""Commands of the web page and of the live view in the terminal."""

import sys
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


def listen(
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="Read a file instead of the microphone.")] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name (or part of it) or number of a microphone. Default: the system's."),
    ] = None,
    model: ChosenModel = None,
    every: Annotated[
        float | None,
        typer.Option(min=0.1, max=60, metavar="SECONDS", help="Time between predictions. Default: the package's."),
    ] = None,
) -> None:
    """Predict the emotion live from the microphone: one bar per emotion, and the latency.

    The audio is cut into overlapping windows, whose length the model's package sets; each is predicted as soon as it is
    complete. If the output is not a terminal, each prediction is one line. Ctrl-C ends it. Nothing is recorded.

    Examples
    --------
    * `speech-emotion listen`
    * `speech-emotion listen --file clip.wav --every 0.5`
    """
    from speech_emotion.app.live import screen as live
    from speech_emotion.app.live.sources import Microphone, Played
    from speech_emotion.core.errors import UserError
    from speech_emotion.inference.windows import settings_of
    from speech_emotion.registry.model_resolution import choose

    if file is not None and device is not None:
        raise UserError("--file and --device are two sources; choose one.")
    chosen = choose(model)
    settings = settings_of(chosen.recognizer.package)
    if every is not None:
        if every > settings.seconds:
            raise UserError(f"--every {every:g}: must be at most {settings.seconds:g}, the length of a window.")
        settings = settings.model_copy(update={"hop_seconds": every})
    rate = chosen.recognizer.package.description.features.sample_rate
    source = Microphone(device) if file is None else Played(file, rate)
    title = f"{source.name}: {chosen.title}"
    screen = live.Moving(title, chosen.recognizer.labels) if sys.stdout.isatty() else live.Lines(title)
    typer.echo(live.listen(source, chosen.recognizer, settings, screen), err=True)
