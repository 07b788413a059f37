"""Takes nothing; gives what several commands' options share, each written once."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from speech_emotion.core.errors import UserError

if TYPE_CHECKING:
    from speech_emotion.config.monitoring import MonitorSettings

MODEL_HELP: Final = "A package's folder, or models:/NAME@challenger or models:/NAME/3 in the registry."


def named(model: str | None) -> str | None:
    """Return a model's name; an empty one, as a shell makes of a variable that is not set, would mean this folder."""
    if model == "":
        raise UserError("--model is empty. Name a package's folder, or models:/NAME@champion in the registry.")
    return model


def _model(without: str) -> Any:
    help = f"{MODEL_HELP} Without it, {without}."
    return typer.Option("--model", "-m", metavar="MODEL", help=help, callback=named)


ModelOption = Annotated[str | None, _model("the one that is built in")]
"""A model, or what `speech_emotion.registry.model_resolution.load` takes where none is named."""

ChosenModel = Annotated[str | None, _model("the workspace's champion, else the one that is built in")]
"""A model, or what `speech_emotion.registry.model_resolution.choose` takes where none is named."""


CorpusOption = Annotated[
    str | None, typer.Option(help="The corpus's name. Without it: corpus.name of params.yaml.", show_default=False)
]


def corpus_name(asked: str | None) -> str:
    """Return the name of the corpus that was asked for, else of the one that params.yaml names."""
    if asked:
        return asked
    from speech_emotion.config.base import read_section
    from speech_emotion.config.data import CorpusSettings

    return read_section("corpus", CorpusSettings).name


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
    from speech_emotion.config.base import section_or
    from speech_emotion.config.monitoring import DEFAULT

    return section_or(DEFAULT, "monitor")
