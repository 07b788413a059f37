"""`speech-emotion serve`: serve predictions over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from speech_emotion.cli.options import ModelOption, monitor_settings

EXAMPLES = """
Examples:

speech-emotion serve

speech-emotion serve --model models:/speech-emotion-tess@champion --host 0.0.0.0 --port 8080

speech-emotion serve --log-predictions predictions/
"""


def serve(
    model: ModelOption = None,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 5001,
    log_predictions: Annotated[
        Path | None,
        typer.Option(
            "--log-predictions",
            metavar="FOLDER",
            help="Keep a log of answers for `speech-emotion monitor`: no audio, no addresses, times to the hour.",
        ),
    ] = None,
) -> None:
    """Answer recordings over HTTP: MLflow's scoring contract, with limits, metrics and a graceful stop.

    `POST /invocations`, `GET /ping`, `/version`, `/metrics`, `/docs`. The limits are the section `serve` of
    params.yaml, where there is one. A new champion is picked up without a restart. The log is one JSON object a line.
    """
    from speech_emotion.config.base import section_or
    from speech_emotion.config.serving import DEFAULT
    from speech_emotion.core.parallel import core_count
    from speech_emotion.serving.server import serve as run

    settings = section_or(DEFAULT, "serve")
    log = None if log_predictions is None else (log_predictions, monitor_settings().log)
    run(model, settings, host=host, port=port, cores=core_count(), log=log)
