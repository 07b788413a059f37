"""Takes nothing; gives what several commands' options share, each written once."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from speech_emotion.settings.monitor import MonitorSettings

MODEL_HELP: Final = "A package's folder, or models:/NAME@challenger or models:/NAME/3 in the registry."


ChosenModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help=f"{MODEL_HELP} Without it, the workspace's champion, else the one that is built in.",
    ),
]
"""A model, or what `speech_emotion.choosing.choose` takes where none is named."""


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    csv = "csv"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="table is for reading, the others for programs.")]


class ComputeOption(StrEnum):
    """Where parallel work runs."""

    local = "local"
    ray = "ray"


def monitor_settings() -> "MonitorSettings":
    """Return the section `monitor` of params.yaml, where there is one, else what is built in."""
    from speech_emotion.settings.anywhere import section_or
    from speech_emotion.settings.monitor import DEFAULT

    return section_or(DEFAULT, "monitor")
