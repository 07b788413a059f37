"""Takes nothing; gives Gradio, imported so that it calls nobody, writes nothing and takes half of the time."""

import inspect
import os
from types import ModuleType
from typing import Any, Final, NoReturn

QUIET: Final = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
"""Set for Gradio and the client of Hugging Face that it brings; a user's own values do not count."""

FOREIGN: Final = ("GRADIO_SHARE", "GRADIO_MCP_SERVER", "GRADIO_SSR_MODE", "GRADIO_ROOT_PATH", "GRADIO_ALLOWED_PATHS")
"""What would open the page to others, if it lay in the environment."""


def gradio() -> ModuleType:
    """Import Gradio.

    At each import, Gradio writes type stubs for editors beside its own components, where it finds their source: more
    than a second of parsing, in a folder that may be read-only. For the time of the import it finds no source, which it
    takes for a component without a file.
    """
    os.environ.update(QUIET)
    for name in FOREIGN:
        os.environ.pop(name, None)
    getfile = inspect.getfile
    inspect.getfile = _nowhere  # type: ignore[assignment]
    try:
        import gradio
    finally:
        inspect.getfile = getfile
    return gradio


def _nowhere(_: Any) -> NoReturn:
    raise OSError
