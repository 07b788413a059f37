"""The command line `speech-emotion`.

Exit status: 0 success, 1 an error with a message, 2 wrong usage, 130 Ctrl-C. Command modules import libraries inside
their functions, so that `--help` and `predict` start fast.
"""

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from speech_emotion.cli import app as page
from speech_emotion.cli import evaluate, monitor, predict, registry, serve, tune, workspace
from speech_emotion.core.errors import UserError, in_words, print_masked_traceback

_EXTRAS = {
    **dict.fromkeys(("fastapi", "pebble", "prometheus_client", "starlette", "uvicorn"), "serve"),
    **{"boto3": "s3", "mlflow": "mlflow", "psycopg2": "postgres", "pyarrow": "parquet", "ray": "cluster"},
    **{"gradio": "app", "sounddevice": "listen"},
}
"""The extra that installs a package, where it is not `pipeline`."""


class _Commands(TyperGroup):
    """Report errors that a user can cause in one line, with an exit status."""

    def invoke(self, context: Any) -> Any:
        try:
            result = super().invoke(context)
            sys.stdout.flush()
            return result
        except UserError as error:
            raise _end(str(error)) from None
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("speech_emotion"):
                raise
            command = context.invoked_subcommand
            known = _EXTRAS.get(error.name or "", "pipeline")
            extra = command if command in ("app", "monitor") and known != "mlflow" else known
            raise _end(
                f"this command needs the package '{error.name}', which is not installed: "
                f"`make setup` in the checkout, or pip install '.[{extra}]' there"
            ) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # the reader (such as `head`) closed the pipe; Python would report that again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        except OSError as error:
            message = in_words(error)
            if not message:
                raise
            raise _end(message) from None


def _end(message: str) -> typer.Exit:
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(1)


app = typer.Typer(
    name="speech-emotion",
    cls=_Commands,
    help="Recognise emotions in speech; train, evaluate and manage the models.",
    epilog="`predict`, `enroll`, `app`, `listen`, `serve`, `monitor`, `evaluate` and `version` work anywhere; the "
    "other commands need a clone of the repository.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


for command in (
    *(predict.predict, predict.enroll, page.app, page.listen, serve.serve, monitor.monitor, evaluate.evaluate),
    *(workspace.runs, registry.compare, workspace.data, registry.publish, registry.registry),
    *(registry.promote, registry.rollback, registry.history, tune.tune, workspace.preset),
):
    app.command()(command)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(installed("speech-emotion"))


def main() -> None:
    """Run the command line and exit."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for them reads every installed package
    for stream in (sys.stdout, sys.stderr):
        # file names may contain bytes that are not text
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # a mistake of ours
        print_masked_traceback(*sys.exc_info())
        sys.exit(1)
