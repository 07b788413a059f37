"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from speech_emotion.core.errors import UserError

if TYPE_CHECKING:
    from speech_emotion.config.monitoring import MonitorSettings

MODEL_HELP: Final = "A package folder, or models:/NAME@challenger or models:/NAME/3 in the registry."


def named(model: str | None) -> str | None:
    """Return a model's name, and reject an empty one: from an unset shell variable, it would mean this folder."""
    if model == "":
        raise UserError("--model is empty. Give a package folder, or models:/NAME@champion in the registry.")
    return model


def _model(without: str) -> Any:
    help = f"{MODEL_HELP} Default: {without}."
    return typer.Option("--model", "-m", metavar="MODEL", help=help, callback=named)


ModelOption = Annotated[str | None, _model("the built-in model")]
ChosenModel = Annotated[str | None, _model("the champion of this workspace, else the built-in model")]
CorpusOption = Annotated[str | None, typer.Option(help="Name of the corpus. Default: corpus.name of params.yaml.")]


def corpus_name(name: str | None) -> str:
    """Return the given name, else corpus.name of params.yaml."""
    if name:
        return name
    from speech_emotion.config.base import read_section
    from speech_emotion.config.data import CorpusSettings

    return read_section("corpus", CorpusSettings).name


FormatOption = Annotated[Literal["table", "json"], typer.Option("--format", "-f", help="Output format.")]

ProfileOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Speaker profile for all, from `enroll`.")]
ProfilesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER|CSV",
        help="Profiles of several speakers: anna.json is that of recordings in anna/ and in the folders in it; or a "
        "CSV with the columns path (of a recording) and profile.",
    ),
]

Compute = Literal["local", "ray"]
"""Where parallel work runs."""


def monitor_settings() -> "MonitorSettings":
    """Return the section `monitor` of params.yaml, or the defaults if there is none."""
    from speech_emotion.config.base import section_or
    from speech_emotion.config.monitoring import MonitorSettings

    return section_or(MonitorSettings(), "monitor")
