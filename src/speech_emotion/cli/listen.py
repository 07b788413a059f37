"""`speech-emotion listen`: predict a microphone or a file live in the terminal."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from speech_emotion.cli.options import ChosenModel


def listen(
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Play a recording instead of the microphone.")
    ] = None,
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
