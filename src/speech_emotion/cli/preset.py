"""`speech-emotion preset`: write a preset into params.yaml and show the diff."""

from typing import Annotated

import typer


def preset(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="demo, own or reference (files in presets/), or the path of a YAML file."),
    ],
) -> None:
    """Write a preset into params.yaml and show the diff.

    Comments and order stay as they are; a preset that would make an impossible setting changes nothing. `git checkout
    params.yaml` takes it back.

    Examples
    --------
    * `speech-emotion preset reference && dvc repro`
    * `git checkout params.yaml`
    """
    from speech_emotion.config.presets import apply

    typer.echo(apply(name) or "params.yaml has these settings already.\n", nl=False)
