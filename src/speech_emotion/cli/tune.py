"""The command `tune`: search for better training settings, or apply the best ones to params.yaml."""

from typing import TYPE_CHECKING, Annotated

import typer

from speech_emotion.cli.options import Compute

if TYPE_CHECKING:
    from speech_emotion.tuning.objective import SearchInputs


def tune(
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the best settings found so far into params.yaml; no search.")
    ] = False,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials of the study. Default: tune.trials.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Time for this call. Default: tune.minutes.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Parallel trials. Default: compute.workers.")
    ] = None,
    compute: Annotated[
        Compute | None, typer.Option(help="ray: the cluster of params.yaml. Default: compute.backend.")
    ] = None,
) -> None:
    """Search for better training settings in the space `tune.space` of params.yaml.

    Every trial is an MLflow run. Ctrl-C stops the search and writes its report to reports/CORPUS/tuning. The same
    command resumes it, also after a kill.

    Examples
    --------
    * `speech-emotion tune`
    * `speech-emotion tune --minutes 30 --workers 2`
    * `speech-emotion tune --compute ray`
    * `speech-emotion tune --apply && dvc repro`
    """
    from speech_emotion.config.params import read_settings
    from speech_emotion.tuning.objective import SearchInputs
    from speech_emotion.tuning.search import search

    settings = read_settings()
    changes = {name: value for name, value in (("trials", trials), ("minutes", minutes)) if value is not None}
    inputs = SearchInputs(settings.corpus, settings.tune.model_copy(update=changes), settings.train, settings.calibrate)
    if apply:
        _apply(inputs)
        return
    place = {"backend": compute or settings.compute.backend, "workers": workers or settings.compute.workers}
    outcome = search(inputs, settings.compute.model_copy(update=place))
    if outcome.winner is not None:
        typer.echo(f"tune: {outcome.winner}")
        typer.echo(f"tune: report in {outcome.report}; `speech-emotion tune --apply` updates params.yaml")
    if outcome.interrupted:
        raise typer.Exit(130)


def _apply(inputs: "SearchInputs") -> None:
    from speech_emotion.tuning.report import apply_winner, report_folder

    difference, winner = apply_winner(inputs, report_folder(inputs.corpus.name))
    typer.echo(difference or "params.yaml already has these settings.\n", nl=False)
    typer.echo(f"found: {winner}")
    if difference:
        typer.echo("`dvc repro` trains with them.")
