"""Takes the search space of params.yaml; searches, goes on with a search, or puts its winner into params.yaml."""

from typing import TYPE_CHECKING, Annotated

import typer

from speech_emotion.cli.options import ComputeOption

if TYPE_CHECKING:
    from speech_emotion.tuning.objective import Ground

EXAMPLES = """
Examples:

speech-emotion tune

speech-emotion tune --minutes 30 --workers 2

speech-emotion tune --compute ray

speech-emotion tune --apply && dvc repro
"""


def tune(
    apply: Annotated[bool, typer.Option("--apply", help="Search nothing: write the winner into params.yaml.")] = False,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Of the study. Without it: tune.trials.", show_default=False)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Of this call. Without it: tune.minutes.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at once. Without it: compute.workers.", show_default=False)
    ] = None,
    compute: Annotated[
        ComputeOption | None, typer.Option(help="Without it: compute.backend.", show_default=False)
    ] = None,
) -> None:
    """Search for better training settings, in the space that params.yaml declares under `tune:`.

    Every trial is a run of MLflow. Ctrl-C ends it with what was found, and the same command goes on, also after a kill.
    The report lies in the folder `tuning` of the corpus's reports.
    """
    from speech_emotion.config.base import parse_section
    from speech_emotion.config.compute import ComputeSettings
    from speech_emotion.config.params import read_settings
    from speech_emotion.config.tuning import TuneSettings
    from speech_emotion.tuning.objective import Ground

    settings = read_settings()
    given = {name: value for name, value in (("trials", trials), ("minutes", minutes)) if value is not None}
    asked = parse_section("tune", TuneSettings, {**settings.tune.model_dump(mode="json"), **given})
    ground = Ground.of(settings.corpus, asked, settings.train, settings.calibrate)
    if apply:
        _apply(ground)
        return
    from speech_emotion.tuning.search import search

    options = (("backend", compute.value if compute else None), ("workers", workers))
    place = {name: value for name, value in options if value is not None}
    outcome = search(
        ground, parse_section("compute", ComputeSettings, {**settings.compute.model_dump(mode="json"), **place})
    )
    if outcome.winner is not None:
        typer.echo(f"tune: {outcome.winner.sentence}")
        typer.echo(f"tune: report in {outcome.report}, and {outcome.page} to look around in")
        typer.echo("tune: `speech-emotion tune --apply` puts it into params.yaml")
    if outcome.interrupted:
        raise typer.Exit(130)


def _apply(ground: "Ground") -> None:
    from speech_emotion.tuning.best_trial import apply, report_folder
    from speech_emotion.tuning.objective import in_words

    difference, winner = apply(ground, report_folder(ground.corpus.name))
    typer.echo(difference or "params.yaml has these settings already.\n", nl=False)
    typer.echo(f"found: {winner.sentence}")
    if not difference:
        return
    if winner.recipe == in_words(ground.full):
        typer.echo(f"`dvc repro` trains it; `val_uar` of '{winner.protocol}' should come to about {winner.uar:.3f}.")
        return
    typer.echo(
        f"`dvc repro` trains it. It was not found by the full recipe, but {winner.recipe}: {in_words(ground.full)}, "
        f"`val_uar` of '{winner.protocol}' will come to something else than {winner.uar:.3f}, and the settings before "
        "may turn out the better ones. With tune.promotion.trials above 0, a search compares them by the full recipe."
    )
