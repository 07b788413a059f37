"""Serve the web page until it is stopped.

Gradio builds the page; our own uvicorn serves it behind `Guard`, because Gradio's own start accesses the network.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pandas as pd
import uvicorn
from starlette.applications import Starlette

from speech_emotion.app import examples as app_examples
from speech_emotion.app import wording
from speech_emotion.app.guard import Guard
from speech_emotion.app.uploads import SECONDS, Uploads, keep, working_folder
from speech_emotion.audio.decode import AudioError, decode
from speech_emotion.core.errors import UserError
from speech_emotion.inference.response import LONGEST_BYTES, row
from speech_emotion.inference.windows import Answer, WindowedRecognizer
from speech_emotion.registry.model_resolution import Model
from speech_emotion.serving.limits import HEAD_BYTES
from speech_emotion.serving.protocol import bound, protocol, url

TITLE: Final = "Speech emotion recognition"

MOST_CONNECTIONS: Final = 100
MOST_WAITING: Final = 16
"""Calls in Gradio's queue."""

_EMPTY: Final = '<p class="se-empty">The prediction appears here.</p>'

# screen readers announce the prediction when it changes
_ON_LOAD: Final = """() => {
  const verdict = document.getElementById("verdict");
  verdict.setAttribute("role", "status");
  verdict.setAttribute("aria-live", "polite");
}"""

# on a phone, the prediction is below the button
_ON_ANSWER: Final = """() => { document.getElementById("verdict").scrollIntoView({block: "nearest"}); }"""

QUIET: Final = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
"""Environment of Gradio and its Hugging Face client."""

PROFILE_SECONDS: Final = 3600
"""A session's speaker profile is deleted after so long."""

FOREIGN: Final = ("GRADIO_SHARE", "GRADIO_MCP_SERVER", "GRADIO_SSR_MODE", "GRADIO_ROOT_PATH", "GRADIO_ALLOWED_PATHS")
"""Variables that would open the page to others."""


def serve(model: Model, *, host: str, port: int, names: Sequence[str], kept: Path | None) -> None:
    """Serve the page until SIGTERM or SIGINT, and print its address.

    Port 0 is any free one. `names` are further host names under which browsers reach the page. Recordings are kept in
    the folder `kept`, or deleted if it is None.
    """
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
    config = uvicorn.Config(
        Starlette(),
        host=host,
        port=port,
        http=protocol(SECONDS, lambda *_, **__: None),
        ws="none",
        log_config=None,
        log_level="critical",
        access_log=False,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_graceful_shutdown=1,  # open pages do not hold up a stop
        timeout_notify=SECONDS,
    )
    listener = bound(config)
    with working_folder() as working:
        # all that Gradio writes, it writes here
        tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"] = str(working)
        uploads = Uploads(working)
        config.app, sessions = mounted(model, uploads, kept, [host, *names])

        async def sweep() -> None:
            await uploads.sweep()
            sessions.delete_all_expired_state()

        config.callback_notify = sweep
        server = uvicorn.Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            # at its end, uvicorn sends itself the signals it received; by default they would kill it
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        print(f"the page: {url(listener)}", flush=True)  # a request waits until the server runs
        server.run(sockets=[listener])


def mounted(model: Model, uploads: Uploads, kept: Path | None, names: Sequence[str]) -> tuple[Guard, Any]:
    """Return the page as an ASGI application, and Gradio's store of sessions; see `serve`."""
    os.environ.update(QUIET)
    for name in FOREIGN:
        os.environ.pop(name, None)
    import gradio as gr
    from fastapi import FastAPI

    page = _page(gr, model, uploads, kept)
    page.queue(max_size=MOST_WAITING)
    # Gradio checks the paths that a client names only in a page that it has launched itself
    page.has_launched = True
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        # Gradio's own fonts come from another host
        theme=gr.themes.Default(
            primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css_paths=[Path(__file__).with_name("page.css")],
        js=_ON_LOAD,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=LONGEST_BYTES,
        ssr_mode=False,
        mcp_server=False,
    )
    inputs = {number: len(one.inputs) for number, one in page.fns.items() if one.fn is not None}
    return Guard(app, uploads, inputs=inputs, names=names), page.state_holder


def _page(gr: Any, model: Model, uploads: Uploads, kept: Path | None) -> Any:
    package = model.recognizer.package
    limits = package.description.limits
    promise = (
        "Recordings are analysed on the machine that serves this page and not kept."
        if kept is None
        else f"**Recordings are kept** on the machine that serves this page, in the folder “{kept.name}”."
    )
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(
            f"# {TITLE}\nRecord a sentence or drop a file of {limits.min_seconds:g} to {limits.max_seconds:g} s. "
            f"{promise}",
            elem_id="heading",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                voice = gr.Audio(
                    label="Your voice", sources=["microphone"], type="filepath", editable=False, buttons=[]
                )
                # gr.Audio refuses what a phone has recorded by its name
                file = gr.File(label="Or drop a file", type="filepath", height=130)
                examples = {}
                if find_spec("espeakng_loader") is not None:
                    gr.Markdown("Or try synthetic speech.")
                    with gr.Row(elem_id="examples"):
                        examples = {name: gr.Button(name, size="md", min_width=120) for name in app_examples.EXAMPLES}
                profile = gr.State(time_to_live=PROFILE_SECONDS)
                enrolment = _enrolment(gr, visible=package.description.enrolled is not None)
            with gr.Column(scale=3, min_width=320):
                shown = [voice, file, *_answer(gr, package.labels)]
        gr.Markdown(
            f"### How reliable is it?\n**Model:** {model.title}, trained on the corpus "
            f"“{package.description.corpus}”.\n\n{wording.small_print(package)}",
            elem_id="trust",
        )
        handlers = _Handlers(gr, model, uploads, kept)
        # preprocess: Gradio makes copies of what it hands on as a file
        how = {"show_progress": "minimal", "api_visibility": "private", "preprocess": False}
        answers = [
            voice.stop_recording(partial(handlers.uploaded, name="your recording"), [voice, profile], shown, **how),
            file.upload(handlers.uploaded, [file, profile], shown, **how),
            *(
                button.click(partial(handlers.example, name), profile, shown, **how)
                for name, button in examples.items()
            ),
        ]
        for answer in answers:
            answer.then(None, js=_ON_ANSWER)
        own_voice, own_file, _, forget = enrolment
        enrolled = [profile, *enrolment]
        own_voice.stop_recording(partial(handlers.enroll, name="your recording"), own_voice, enrolled, **how)
        own_file.upload(handlers.enroll, own_file, enrolled, **how)
        forget.click(handlers.forget, None, enrolled, **how)
    return page


def _enrolment(gr: Any, *, visible: bool) -> list[Any]:
    """Return the components of an enrolment: a microphone, a file, a note and a button to forget the voice."""
    with gr.Accordion("Your normal voice (optional)", open=False, visible=visible, elem_id="own-voice"):
        gr.Markdown(
            f"Record about {wording.LONG_ENOUGH} s in your normal voice, or drop a file: predictions on this page then "
            "take your voice into account. The recording is deleted at once. The server remembers the average of its "
            "features, no audio, for this page only and for an hour at most."
        )
        voice = gr.Audio(label="Normal voice", sources=["microphone"], type="filepath", editable=False, buttons=[])
        file = gr.File(label="Or drop a file of it", type="filepath", height=130)
        note = gr.HTML("")
        forget = gr.Button("Forget my voice", visible=False)
    return [voice, file, note, forget]


def _answer(gr: Any, labels: Sequence[str]) -> list[Any]:
    """Return the components of an answer: verdict, probabilities, and over time a group, a plot and a table."""
    verdict = gr.HTML(_EMPTY, elem_id="verdict")
    probabilities = gr.Label(label="Probability of each emotion", show_heading=False, visible=False)
    with gr.Column(visible=False, elem_id="over-time") as over_time:
        plot = gr.LinePlot(
            x="seconds",
            y="probability",
            color="emotion",
            color_map=dict(zip(map(wording.words, labels), wording.COLOURS, strict=False)),
            y_lim=[0, 1],
            title="Emotion over time",
            elem_id="plot",
            buttons=[],
        )
        with gr.Accordion("The windows as a table", open=False):
            table = gr.Dataframe(headers=["seconds", "answer", "most probable", "probability"], interactive=False)
    return [verdict, probabilities, over_time, plot, table]


class _Handlers:
    """Functions that the page calls; each returns the values of all outputs."""

    def __init__(self, gr: Any, model: Model, uploads: Uploads, kept: Path | None) -> None:
        self._gr, self._model, self._uploads, self._kept = gr, model, uploads, kept
        self._windowed = WindowedRecognizer(model.recognizer)

    def uploaded(self, upload: Mapping[str, Any] | None, profile: str | None, name: str = "") -> list[Any]:
        """Answer what Gradio calls a file: a mapping with its `path` and its `orig_name`."""
        if upload is None:
            return self._shown(_EMPTY)
        name = name or upload["orig_name"] or "the file"
        try:
            return self._show(self._uploads.take(upload["path"]), name, profile, kept_as=upload["path"])
        except AudioError as error:
            return self._shown(wording.refusal(f"{name} {error}."))

    def enroll(self, upload: Mapping[str, Any] | None, name: str = "") -> list[Any]:
        """Make the profile of a session from an upload; return the values of the profile and of `_enrolment`."""
        if upload is None:
            return self.forget()
        recognizer = self._model.recognizer
        try:
            recording = self._uploads.take(upload["path"])
            sound = decode(recording, max_seconds=recognizer.package.description.limits.max_seconds)
            profile = recognizer.profile_of([recognizer.frames(sound)])
            recognizer.with_profile(profile)
        except UserError as error:
            note = wording.refusal(f"{name or upload['orig_name'] or 'the file'} {error}.")
            return [self._gr.skip(), None, None, note, self._gr.skip()]
        note = wording.enrolled(sound.seconds)
        return [profile.model_dump_json(), None, None, note, self._gr.update(visible=True)]

    def forget(self) -> list[Any]:
        """Forget the profile of a session."""
        return [None, None, None, "", self._gr.update(visible=False)]

    def example(self, name: str, profile: str | None) -> list[Any]:
        """Answer synthetic speech."""
        with tempfile.TemporaryDirectory(dir=self._uploads.folder) as folder:
            try:
                spoken = app_examples.speak(name, Path(folder)).read_bytes()
                return self._show(spoken, f"synthetic speech, “{name}”", profile, kept_as=None)
            except UserError as error:
                return self._shown(wording.refusal(str(error)))

    def _show(self, recording: bytes, name: str, profile: str | None, *, kept_as: str | None) -> list[Any]:
        package = self._model.recognizer.package
        sound = decode(recording, max_seconds=package.description.limits.max_seconds)
        windowed = self._windowed.of_speaker(profile)
        answer = windowed(sound)
        if self._kept is not None and kept_as is not None:
            try:
                keep(recording, kept_as, self._kept, row(answer, self._model.versions))
            except OSError as error:  # the answer is shown all the same
                print(f"error: {self._kept}: a recording was not kept ({error.strerror}).", file=sys.stderr, flush=True)
        said = f"{name}, compared with your normal voice" if profile else name
        return self._shown(wording.verdict(said, sound.seconds, answer.whole, windowed.recognizer), answer)

    def _shown(self, verdict: str, answer: Answer | None = None) -> list[Any]:
        """Return the values of all outputs: two empty inputs, and those of `_answer`."""
        gr = self._gr
        if answer is None:
            return [None, None, verdict, gr.update(visible=False), gr.update(visible=False), gr.skip(), gr.skip()]
        shares = {wording.words(label): share for label, share in answer.whole.probabilities.items()}
        points = [
            ((window.start + window.end) / 2, share, wording.words(label))
            for window in answer.windows
            for label, share in window.prediction.probabilities.items()
        ]
        return [
            None,
            None,
            verdict,
            gr.update(value=shares, visible=True),
            gr.update(visible=bool(answer.windows)),
            pd.DataFrame(points, columns=["seconds", "probability", "emotion"]) if points else gr.skip(),
            wording.rows(answer.windows),
        ]
