"""Serve a model over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from speech_emotion.cli.options import ModelOption, monitor_settings


def serve(
    model: ModelOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free port.")] = 5001,
    log_predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write a prediction log for `speech-emotion monitor`: no audio, no addresses, times to the hour.",
        ),
    ] = None,
) -> None:
    """Serve predictions over HTTP with MLflow's scoring protocol, request limits, metrics and a graceful stop.

    Endpoints: POST /invocations, GET /ping, /version, /metrics, /openapi.json. The section `serve` of params.yaml sets
    the limits. With `--model models:/NAME@champion`, a new champion replaces the model without downtime. The log is
    one JSON object per line.

    Examples
    --------
    * `speech-emotion serve`
    * `speech-emotion serve --model models:/speech-emotion-tess@champion --host 0.0.0.0 --port 8080`
    * `speech-emotion serve --log-predictions predictions/`
    """
    from speech_emotion.config.base import section_or
    from speech_emotion.config.serving import ServeSettings
    from speech_emotion.serving.server import serve as run

    settings = section_or(ServeSettings(), "serve")
    log = None if log_predictions is None else (log_predictions, monitor_settings().log)
    run(model, settings, host=host, port=port, log=log)
