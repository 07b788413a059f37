"""Answer requests inside a worker process.

Parsing and decoding run here, so that a decoder that crashes, hangs or leaks costs one request only.
"""

import ctypes
import json
import signal
import sys
from contextlib import suppress
from typing import Final

from threadpoolctl import threadpool_limits

from speech_emotion.audio.decode import decode
from speech_emotion.core.errors import UserError
from speech_emotion.core.process import die_with_parent
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.response import decode_base64, row
from speech_emotion.inference.windows import Answer, Listener
from speech_emotion.monitoring.audio_stats import traits
from speech_emotion.monitoring.prediction_log import Entry, entry
from speech_emotion.registry.model_resolution import folder_of
from speech_emotion.registry.model_source import Model
from speech_emotion.serving.schemas import Reply, parse, refusal

_M_MMAP_THRESHOLD: Final = -3

_loaded: "Predictor | UserError"


class Predictor:
    """Answer requests with one package.

    Parameters
    ----------
    model : Model
    most : int
        Largest number of recordings in a request.
    keep_log : bool
        Whether replies carry rows for the prediction log.
    """

    def __init__(self, model: Model, *, most: int, keep_log: bool) -> None:
        recognizer = Recognizer.load(folder_of(None if model.folder is None else str(model.folder)))
        self._listener, self._most, self._keep_log = Listener(recognizer), most, keep_log
        self.digest = recognizer.package.digest
        self._versions = {"model": model.name, "model_version": model.version, "package_digest": self.digest}

    def __call__(self, body: bytes | bytearray) -> Reply:
        """Answer a request; one unusable recording refuses all of it, as with MLflow's server."""
        where, rows, log_rows = "", [], []
        try:
            for number, text in enumerate(parse(body, most=self._most)):
                where = f"row {number}: "
                answer, log_row = self._predict(decode_base64(text))
                rows.append(row(answer, self._versions))
                log_rows += [log_row] if log_row else []
        except UserError as error:
            return Reply(400, refusal(f"{where}{error}"))
        except Exception as error:  # a decoder may raise anything on a damaged file
            return Reply(400, refusal(f"{where}cannot be decoded: it is damaged"), error=type(error).__name__)
        log = json.dumps(log_rows).encode() if log_rows else b""
        return Reply(200, json.dumps({"predictions": rows}).encode(), len(rows), log)

    def _predict(self, recording: bytes) -> tuple[Answer, Entry | None]:
        if not self._keep_log:
            return self._listener(recording), None
        # decode once, for the prediction and for the statistics
        sound = decode(recording, max_seconds=self._listener.recognizer.package.description.limits.max_seconds)
        answer = self._listener(sound.samples, sound.sample_rate)
        return answer, entry(traits(sound), answer.whole, self._versions)


def load(model: Model, most: int, keep_log: bool) -> None:
    """Prepare this process and load the model; keeps an error for `get`, because pebble gives up a pool that raises."""
    global _loaded
    # a service manager signals the whole group: requests in progress must survive that
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    return_memory_at_once()
    # more BLAS threads do not speed up a clip, and take a core from another worker
    threadpool_limits(limits=1)
    try:
        _loaded = Predictor(model, most=most, keep_log=keep_log)
    except (UserError, OSError) as error:
        _loaded = UserError(str(error))


def get() -> Predictor:
    """Return the loaded predictor, or raise why there is none."""
    if isinstance(_loaded, UserError):
        raise _loaded
    return _loaded


def return_memory_at_once() -> None:
    """Return blocks of 1 MiB or more to the system when they are freed; by default glibc keeps them."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # not glibc
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)
