"""Takes a package and the bodies of requests, through a pipe; gives their answers. A process of its own.

A decoder that crashes, hangs or takes memory does it here, where it can be ended without harm to other requests.
"""

import json
import signal
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection

from speech_emotion.answering import decode_base64, row
from speech_emotion.errors import UserError
from speech_emotion.inference import Recognizer
from speech_emotion.loading import folder_of
from speech_emotion.serving.memory import give_back_at_once
from speech_emotion.serving.requests import recordings
from speech_emotion.serving.wire import HEADER, refusal
from speech_emotion.windows import Listener


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
        _serve(pipe, listener, versions, order["recordings"])


def _serve(pipe: Connection, listener: Listener, versions: Mapping[str, str], most: int) -> None:
    while True:
        try:
            body = pipe.recv_bytes()
        except EOFError:
            return
        status, count, answer = reply(listener, versions, body, most=most)
        del body
        try:
            pipe.send_bytes(HEADER.pack(status, count) + answer)
        except OSError:  # the server is gone
            return


def reply(listener: Listener, versions: Mapping[str, str], body: bytes, *, most: int) -> tuple[int, int, bytes]:
    """Return the status of a request, how many recordings were answered, and the JSON of its answer.

    One recording that cannot be used refuses the request, as with MLflow's server: nobody has to look for the rows that
    are missing.
    """
    where = ""
    try:
        rows = []
        for number, text in enumerate(recordings(body, most=most)):
            where = f"row {number}: "
            rows.append(row(listener(decode_base64(text)), versions))
    except UserError as error:
        return 400, 0, refusal(f"{where}{error}")
    return 200, len(rows), json.dumps({"predictions": rows}).encode()


if __name__ == "__main__":
    main()
