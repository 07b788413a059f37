"""Answer requests inside a worker process.

Parsing and decoding run here, so that a decoder that crashes, hangs or leaks costs one request only. The process that
listens imports this module too: what needs ONNX Runtime is imported by the functions that only workers call.
"""

import json
import signal
from typing import TYPE_CHECKING

from speech_emotion.core.errors import UserError
from speech_emotion.core.process import die_with_parent
from speech_emotion.inference.response import decode_base64, row
from speech_emotion.registry.model_resolution import Model
from speech_emotion.serving.schemas import Recording, Reply, parse, refusal

if TYPE_CHECKING:
    from speech_emotion.inference.windows import WindowedRecognizer

_loaded: "Predictor | UserError"


class Predictor:
    """Answer requests of at most `most` recordings with one package."""

    def __init__(self, model: Model, *, most: int, keep_log: bool) -> None:
        from speech_emotion.inference.windows import WindowedRecognizer

        self._windowed, self._most, self._keep_log = WindowedRecognizer(model.recognizer), most, keep_log
        self.package, self._versions = model.recognizer.package, model.versions

    def __call__(self, body: bytes) -> Reply:
        """Answer a request; one unusable recording refuses all of it, as with MLflow's server."""
        from speech_emotion.audio.decode import decode
        from speech_emotion.monitoring.audio_stats import describe
        from speech_emotion.monitoring.prediction_log import entry

        longest = self.package.description.limits.max_seconds
        where, rows, log_rows = "", [], []
        try:
            for number, recording in enumerate(parse(body, most=self._most)):
                where = f"row {number}: "
                sound = decode(decode_base64(recording.audio), max_seconds=longest)
                answer = self._of_speaker(recording)(sound)
                rows.append(row(answer, self._versions))
                if self._keep_log:
                    log_rows.append(entry(describe(sound), answer.whole, self._versions))
        except UserError as error:
            return Reply(400, refusal(f"{where}{error}"))
        except Exception as error:  # a decoder may raise anything on a damaged file
            return Reply(400, refusal(f"{where}cannot be decoded: it is damaged"), error=type(error).__name__)
        log = json.dumps(log_rows).encode() if self._keep_log else b""
        return Reply(200, json.dumps({"predictions": rows}).encode(), len(rows), log)

    def _of_speaker(self, recording: Recording) -> "WindowedRecognizer":
        """Return the recognizer for the speaker of a recording."""
        profile = recording.profile
        if recording.references:
            try:
                references = [decode_base64(text) for text in recording.references]
                profile = self._windowed.recognizer.enroll(references).model_dump_json()
            except UserError as error:
                raise UserError(f"references: {error}") from None
        return self._windowed.of_speaker(profile)


def load(model: Model, most: int, keep_log: bool) -> None:
    """Prepare this process and load the model; keep an error, because pebble stops a pool whose initializer raises."""
    global _loaded
    from threadpoolctl import threadpool_limits

    # a service manager signals the whole group: requests in progress must survive that
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    try:
        _loaded = Predictor(model, most=most, keep_log=keep_log)
    except (UserError, OSError) as error:
        _loaded = UserError(str(error))
    # more BLAS threads do not speed up a clip, and take a core from another worker
    threadpool_limits(limits=1)


def digest() -> str:
    """Return the digest of the loaded package, or raise why there is none."""
    return _predictor().package.digest


def answer(bodies: list[bytes]) -> list[Reply]:
    """Answer requests."""
    return [_predictor()(body) for body in bodies]


def _predictor() -> Predictor:
    if isinstance(_loaded, UserError):
        raise _loaded
    return _loaded
