"""Takes nothing; gives what several commands' options share, each written once."""

from enum import StrEnum
from typing import Annotated, Final

import typer

MODEL_HELP: Final = "A package's folder, or models:/NAME@challenger or models:/NAME/3 in the registry."


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
