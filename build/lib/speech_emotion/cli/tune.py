"""The command `tune`: search for better training settings, or apply the best ones to params.yaml."""

from typing import TYPE_CHECKING, Annotated

import typer

from speech_emotion.cli.options import ComputeOption

if TYPE_CHECKING:
    from speech_emotion.tuning.objective import SearchInputs

EXAMPLES = """
Examples:

speech-emotion tune

speech-emotion tune --minutes 30 --workers 2

speech-emotion tune --compute ray

speech-emotion tune --apply && dvc repro
"""


def tune(
    apply: Annotated[bool, typer.Option("--apply", help="Write the best settings found into params.yaml.")] = False,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials of the study. Default: tune.trials.", show_default=False)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Duration of this call. Default: tune.minutes.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Parallel trials. Default: compute.workers.", show_default=False)
    ] = None,
    compute: Annotated[ComputeOption | None, typer.Option(help="Default: compute.backend.", show_default=False)] = None,
) -> None:
    """Search for better training settings in the space `tune.space` of params.yaml.

    Every trial is an MLflow run. Ctrl-C stops the search and writes its report to reports/CORPUS/tuning. The same
    command resumes it, also after a kill.
    """
    from speech_emotion.config.base import parse_section
    from speech_emotion.config.compute import ComputeSettings
    from speech_emotion.config.params import read_settings
    from speech_emotion.config.tuning import TuneSettings
    from speech_emotion.tuning.objective import SearchInputs
    from speech_emotion.tuning.search import search

    settings = read_settings()
    tune = {**settings.tune.model_dump(mode="json"), **_given(trials=trials, minutes=minutes)}
    inputs = SearchInputs(
        settings.corpus, parse_section("tune", TuneSettings, tune), settings.train, settings.calibrate
    )
    if apply:
        _apply(inputs)
        return
    place = {**settings.compute.model_dump(mode="json"), **_given(backend=compute and compute.value, workers=workers)}
    outcome = search(inputs, parse_section("compute", ComputeSettings, place))
    if outcome.winner is not None:
        typer.echo(f"tune: {outcome.winner}")
        typer.echo(f"tune: report in {outcome.report}; `speech-emotion tune --apply` updates params.yaml")
    if outcome.interrupted:
        raise typer.Exit(130)


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _apply(inputs: "SearchInputs") -> None:
    from speech_emotion.tuning.report import apply_winner, report_folder

    difference, winner = apply_winner(inputs, report_folder(inputs.corpus.name))
    typer.echo(difference or "params.yaml already has these settings.\n", nl=False)
    typer.echo(f"found: {winner}")
    if not difference:
        return
    typer.echo("`dvc repro` trains with them.")
    full = str(inputs.full_recipe)
    if winner.recipe != full:
        typer.echo(
            f"These settings were {winner.recipe}. {full.capitalize()}, they may be worse than the settings before. "
            "To compare both in full, set tune.promotion.trials above 0."
        )
