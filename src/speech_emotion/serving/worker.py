"""Takes a package and the bodies of requests, through a pipe; gives their answers. A process of its own.

A decoder that crashes, hangs or takes memory does it here, where it can be ended without harm to other requests.
"""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

from threadpoolctl import threadpool_limits

from speech_emotion.audio.decode import decode
from speech_emotion.core.errors import UserError
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.response import decode_base64, row
from speech_emotion.inference.windows import Answer, Listener
from speech_emotion.monitoring.audio_stats import traits
from speech_emotion.monitoring.prediction_log import Entry, entry
from speech_emotion.registry.model_resolution import folder_of
from speech_emotion.serving.memory import give_back_at_once
from speech_emotion.serving.requests import recordings
from speech_emotion.serving.wire import HEADER, refusal

Listen = Callable[[bytes], tuple[Answer, Entry | None]]
"""Answers a recording, and says what is to be written down of it, if anything is."""


def main() -> None:
    """Serve the pipe that the command line names until its other end is closed."""
    descriptor, order = int(sys.argv[1]), json.loads(sys.argv[2])
    # who stops the server may signal the whole group; a worker ends when the server lets go of it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    give_back_at_once()
    with Connection(descriptor) as pipe:
        try:
            recognizer = Recognizer.load(folder_of(order["folder"]))
            listener = Listener(recognizer)
        except UserError as error:
            pipe.send_bytes(json.dumps({"error": str(error)}).encode())
            return
        digest = recognizer.package.digest
        versions = {"model": order["model"], "model_version": order["version"], "package_digest": digest}
        try:
            pipe.send_bytes(json.dumps({"labels": recognizer.labels, "digest": digest}).encode())
        except OSError:  # the server is gone
            return
        listen = logged(listener, versions) if order["logged"] else unlogged(listener)
        # a second thread of BLAS gains nothing on a clip, and takes a core from another worker while it waits for more
        with threadpool_limits(limits=1):
            _serve(pipe, listen, versions, order["recordings"])


def unlogged(listener: Listener) -> Listen:
    """Return what answers recordings, and keeps nothing."""
    return lambda recording: (listener(recording), None)


def logged(listener: Listener, versions: Mapping[str, str]) -> Listen:
    """Return what answers recordings, and tells what kind of recording each was."""
    longest = listener.recognizer.package.description.limits.max_seconds

    def listen(recording: bytes) -> tuple[Answer, Entry]:
        # decoded here, so that it is decoded once; the samples are answered as the file would be
        sound = decode(recording, max_seconds=longest)
        answer = listener(sound.samples, sound.sample_rate)
        return answer, entry(traits(sound), answer.whole, versions)

    return listen


def _serve(pipe: Connection, listen: Listen, versions: Mapping[str, str], most: int) -> None:
    while True:
        try:
            body = pipe.recv_bytes()
        except EOFError:
            return
        status, count, answer, entries = reply(listen, versions, body, most=most)
        del body
        try:
            pipe.send_bytes(HEADER.pack(status, count, len(entries)) + entries + answer)
        except OSError:  # the server is gone
            return


def reply(listen: Listen, versions: Mapping[str, str], body: bytes, *, most: int) -> tuple[int, int, bytes, bytes]:
    """Return the status of a request, how many recordings were answered, the JSON of its answer, and rows of the log.

    One recording that cannot be used refuses the request, as with MLflow's server: nobody has to look for the rows that
    are missing.
    """
    where = ""
    entries = []
    try:
        rows = []
        for number, text in enumerate(recordings(body, most=most)):
            where = f"row {number}: "
            answer, written = listen(decode_base64(text))
            rows.append(row(answer, versions))
            if written is not None:
                entries.append(written)
    except UserError as error:
        return 400, 0, refusal(f"{where}{error}"), b""
    lines = json.dumps(entries).encode() if entries else b""
    return 200, len(rows), json.dumps({"predictions": rows}).encode(), lines


if __name__ == "__main__":
    main()
