"""Serve the web page until it is stopped.

The page is built with Gradio and served by our own uvicorn, so that a taken port, signals and shutdown are handled as
in `speech-emotion serve`, and Gradio's own start, which accesses the network, is never run.
"""

import logging
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

import uvicorn
from starlette.applications import Starlette

from speech_emotion.app import examples as app_examples
from speech_emotion.app import plots
from speech_emotion.app import uploads as app_uploads
from speech_emotion.app.analysis import analyse
from speech_emotion.app.guard import Guard
from speech_emotion.audio.decode import AudioError
from speech_emotion.core.errors import UserError
from speech_emotion.evaluation.model_card import CARD
from speech_emotion.inference.response import LONGEST_BYTES, row
from speech_emotion.inference.windows import Listener
from speech_emotion.models.package import Package
from speech_emotion.registry.model_resolution import Choice
from speech_emotion.serving import ports

TITLE: Final = "Speech emotion recognition"

UPLOAD_SECONDS: Final = 60
"""Uploads that were not analysed by then are deleted."""

STOP_SECONDS: Final = 1
"""Time that a stop waits for open pages."""

Shown: TypeAlias = tuple[None, None, str, str]
"""Two empty inputs, the prediction, and its details."""

_EMPTY: Final = '<p class="se-empty">The prediction appears here.</p>'
_MINE: Final = "your recording"

# screen readers announce the prediction when it changes
_ON_LOAD: Final = """() => {
  const verdict = document.getElementById("verdict");
  verdict.setAttribute("role", "status");
  verdict.setAttribute("aria-live", "polite");
}"""

# on a phone, the prediction is below the button
_ON_ANSWER: Final = """() => { document.getElementById("verdict").scrollIntoView({block: "nearest"}); }"""


def serve(choice: Choice, *, host: str, port: int, kept: Path | None, say: Callable[[str], None]) -> None:
    """Serve the page until SIGTERM or SIGINT.

    Parameters
    ----------
    choice : Choice
        The model.
    host : str
        The address to listen at.
    port : int
        0: any that is free.
    kept : Path or None
        The folder to keep recordings in; None: they are deleted as soon as they are read.
    say : callable
        Called with the page's address once it responds.

    Raises
    ------
    UserError
        The port is taken, the host is not this machine's, or the folder cannot be made.
    """
    folder = None if kept is None else app_uploads.prepare(kept)
    config = uvicorn.Config(
        Starlette(), host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=STOP_SECONDS
    )
    # uvicorn tells its log of a taken port; the message below is enough
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    listener = ports.bound(config)
    address = ports.url(listener)
    with tempfile.TemporaryDirectory(prefix="speech-emotion-app-") as uploads:
        # all that Gradio writes down, it writes here
        tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"] = uploads
        config.app = Guard(mounted(choice, Path(uploads), folder), host=host, uploads=Path(uploads))
        server = _Server(config, partial(say, address))
        for number in (signal.SIGTERM, signal.SIGINT):
            # at its end, uvicorn sends itself the signals it received; by default they would kill it
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        try:
            with app_uploads.swept(Path(uploads), UPLOAD_SECONDS):
                server.run(sockets=[listener])
        finally:
            tempfile.tempdir = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()


def mounted(choice: Choice, uploads: Path, kept: Path | None) -> Any:
    """Return the page as an ASGI application.

    Parameters
    ----------
    choice : Choice
    uploads : Path
        Folder of Gradio's uploads.
    kept : Path or None
        See `serve`.
    """
    gr = gradio()
    from fastapi import FastAPI

    page = _page(gr, choice, uploads, kept)
    # Gradio checks the paths that a client names only in a page that it has launched itself
    page.has_launched = True
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        theme=gr.themes.Default(
            primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css_paths=[Path(__file__).with_name("page.css")],
        js=_ON_LOAD,
        footer_links=[],
        run_history=False,
        show_error=False,
        enable_monitoring=False,
        max_file_size=LONGEST_BYTES,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )


def _page(gr: Any, choice: Choice, uploads: Path, kept: Path | None) -> Any:
    package = choice.recognizer.package
    limits = package.description.limits
    desk = _Desk(choice, uploads, kept)
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(
            f"# {TITLE}\nRecord a sentence or drop a file of {limits.min_seconds:g} to {limits.max_seconds:g} s. "
            f"{_promise(kept)}",
            elem_id="heading",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                voice = gr.Audio(
                    label="Your voice", sources=["microphone"], type="filepath", editable=False, buttons=[]
                )
                # gr.Audio would refuse by name what a phone has recorded, in words of its own
                file = gr.File(label="Or drop a file", type="filepath", height=130)
                if app_examples.available():
                    gr.Markdown("Or try synthetic speech.")
                    with gr.Row(elem_id="examples"):
                        examples = {name: gr.Button(name, size="md", min_width=120) for name in app_examples.EXAMPLES}
                else:
                    examples = {}
            with gr.Column(scale=3, min_width=320):
                verdict = gr.HTML(_EMPTY, elem_id="verdict")
                details = gr.HTML("", elem_id="details")
        gr.Markdown(f"### How reliable is it?\n{_which(choice)}\n\n{small_print(package)}", elem_id="trust")

        shown = [voice, file, verdict, details]
        # preprocess: Gradio makes copies of what it hands on as a file
        how = {"show_progress": "minimal", "api_visibility": "private", "preprocess": False}
        answers = [
            voice.stop_recording(desk.recorded, voice, shown, **how),
            file.upload(desk.uploaded, file, shown, **how),
        ]
        answers += [button.click(partial(desk.example, name), None, shown, **how) for name, button in examples.items()]
        for answer in answers:
            answer.then(None, js=_ON_ANSWER)
    return page


class _Desk:
    """Takes recordings in, and gives what the page shows of each."""

    def __init__(self, choice: Choice, uploads: Path, kept: Path | None) -> None:
        self._choice, self._uploads, self._kept = choice, uploads, kept
        self._listener = Listener(choice.recognizer)
        package = choice.recognizer.package
        self._notes = plots.Notes(why_not_sure=why_not_sure(package), caveat=caveat(package))

    def uploaded(self, upload: Mapping[str, Any] | None) -> Shown:
        return self._answer(upload, "")

    def recorded(self, upload: Mapping[str, Any] | None) -> Shown:
        return self._answer(upload, _MINE)

    def example(self, name: str) -> Shown:
        with tempfile.TemporaryDirectory(dir=self._uploads) as folder:
            try:
                recording = app_examples.speak(name, Path(folder)).read_bytes()
            except UserError as error:
                return _refused(str(error))
        return self._show(recording, f"synthetic speech, “{name}”")

    def _answer(self, upload: Mapping[str, Any] | None, name: str) -> Shown:
        """Answer what Gradio calls a file: a mapping with its `path` and its `orig_name`."""
        if upload is None:
            return None, None, _EMPTY, ""
        name = name or str(upload.get("orig_name") or "the file")
        try:
            recording = app_uploads.take(Path(upload["path"]), self._uploads)
        except AudioError as error:
            return _refused(f"{name} {error}.")
        return self._show(recording, name, keep_as=Path(upload["path"]).suffix)

    def _show(self, recording: bytes, name: str, keep_as: str | None = None) -> Shown:
        try:
            analysis = analyse(self._listener, recording)
        except AudioError as error:
            return _refused(f"{name} {error}.")
        if self._kept is not None and keep_as is not None:
            try:
                app_uploads.keep(recording, keep_as, self._kept, row(analysis.answer, self._choice.versions))
            except OSError as error:  # who asked has their answer all the same
                print(f"error: {self._kept}: a recording was not kept ({error.strerror}).", file=sys.stderr, flush=True)
        settings = self._choice.recognizer.package.description.features
        return None, None, plots.verdict(name, analysis, self._notes), plots.details(analysis, settings)


def _refused(message: str) -> Shown:
    return None, None, plots.refusal(message), ""


def _which(choice: Choice) -> str:
    corpus = choice.recognizer.package.description.corpus
    return f"**Model:** {choice.words}, trained on the corpus “{corpus}”."


def _promise(kept: Path | None) -> str:
    if kept is None:
        return "Recordings are analysed on the machine that serves this page and not kept."
    return f"**Recordings are kept** on the machine that serves this page, in the folder “{kept.name}”."


QUIET: Final = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
"""Environment of Gradio and its Hugging Face client."""

FOREIGN: Final = ("GRADIO_SHARE", "GRADIO_MCP_SERVER", "GRADIO_SSR_MODE", "GRADIO_ROOT_PATH", "GRADIO_ALLOWED_PATHS")
"""Variables that would open the page to others."""


def gradio() -> ModuleType:
    """Import Gradio without analytics and with its temporary folder set."""
    os.environ.update(QUIET)
    for name in FOREIGN:
        os.environ.pop(name, None)
    import gradio

    return gradio


ALWAYS: Final = (
    "A prediction does not say what a person feels. Do not base decisions about people on it, and do not analyse "
    "people who do not know of it."
)

UNKNOWN: Final = "This package has no model card: its accuracy for an unseen speaker is unknown."


def small_print(package: Package) -> str:
    """Return the summary of the package's model card, or that there is none, and what holds of every model."""
    card = package.folder / CARD
    short = _section(card.read_text(encoding="utf-8"), "Summary") if card.is_file() else None
    return f"{short or UNKNOWN}\n\n{ALWAYS}"


def caveat(package: Package) -> str:
    """Return in one sentence how often an answer is right in a voice that is new to the model, as far as is known."""
    speaker = package.evidence().get("speaker")
    if speaker is None:
        return UNKNOWN
    share, chance = speaker["mean"]["uar"], 1 / len(package.labels)
    return f"For an unseen speaker, this model was right {share:.0%} of the time; guessing, {chance:.0%}."


def why_not_sure(package: Package) -> str:
    """Return what makes an answer of this package not sure, in words."""
    rejection = package.description.rejection
    if rejection is None:
        return ""
    return (
        f"Below {rejection.threshold:.0%} this model gives no answer: where that was chosen, "
        f"{1 - rejection.risk:.0%} of the answers above it were right."
    )


def _section(card: str, name: str) -> str | None:
    found = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", card, flags=re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else None
