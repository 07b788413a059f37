"""Takes a command line; gives output and an exit status: 0 done, 1 a named mistake, 2 a wrong call, 130 Ctrl-C.

A command's module imports what it works with inside its function, so that `--help` and `predict` answer at once.
"""

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from speech_emotion.cli import app as page
from speech_emotion.cli import (
    compare,
    data,
    evaluate,
    listen,
    monitor,
    predict,
    preset,
    promote,
    publish,
    registry,
    runs,
    serve,
    tune,
)
from speech_emotion.core.errors import UserError, in_words

_EXTRAS = {"gradio": "app", "sounddevice": "listen", "boto3": "s3", "psycopg2": "postgres", "ray": "cluster"}
"""Packages that are in another extra than `pipeline`."""


class _Commands(TyperGroup):
    """Turns what a user can cause into one line and an exit status."""

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
            if error.name == "psycopg":  # what SQLAlchemy takes where an address names no driver
                raise _end(
                    "PostgreSQL's driver here is psycopg2: write postgresql+psycopg2://user@host/name, not postgresql://"
                ) from None
            extra = _EXTRAS.get(error.name or "", "pipeline")
            raise _end(
                f"this command needs the package '{error.name}', which is not installed: "
                f"`make setup` in the checkout, or pip install '.[{extra}]' there"
            ) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # whoever read the output has seen enough; Python would complain once more when it closes the stream
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
    help="Recognise emotions in speech, and follow the models that do.",
    epilog="`predict`, `app`, `listen`, `serve`, `monitor` and `evaluate` work anywhere; the others, but for "
    "`version`, belong to a clone of the repository.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command(epilog=predict.EXAMPLES)(predict.predict)
app.command(epilog=page.EXAMPLES)(page.app)
app.command(epilog=listen.EXAMPLES)(listen.listen)
app.command(epilog=serve.EXAMPLES)(serve.serve)
app.command(epilog=monitor.EXAMPLES)(monitor.monitor)
app.command(epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command(epilog=runs.EXAMPLES)(runs.runs)
app.command(epilog=compare.EXAMPLES)(compare.compare)
app.command(epilog=data.EXAMPLES)(data.data)
app.command(epilog=publish.EXAMPLES)(publish.publish)
app.command(epilog=promote.PROMOTE_EXAMPLES)(promote.promote)
app.command(epilog=promote.ROLLBACK_EXAMPLES)(promote.rollback)
app.command(epilog=promote.HISTORY_EXAMPLES)(promote.history)
app.add_typer(registry.app)
app.command(epilog=tune.EXAMPLES)(tune.tune)
app.command(epilog=preset.EXAMPLES)(preset.preset)


@app.command()
def version() -> None:
    """Print the version of this software."""
    from importlib.metadata import version as installed

    typer.echo(installed("speech-emotion"))


def main() -> None:
    """Run the command line and end the process."""
    for stream in (sys.stdout, sys.stderr):
        # a file's name may hold bytes that are no text
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
