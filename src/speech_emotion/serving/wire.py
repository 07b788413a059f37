"""Takes an answer; gives the bytes in which a worker hands it to the server, and in which a client is refused."""

import json
import struct
from typing import Final

HEADER: Final = struct.Struct(">HII")
"""In front of a worker's answer: the HTTP status, how many recordings were answered, and how many of the bytes that
follow are rows of the log of predictions; the rest is the answer."""


def refusal(message: str, code: str = "INVALID_PARAMETER_VALUE") -> bytes:
    """Return the JSON that MLflow's clients expect of a refused request."""
    return json.dumps({"error_code": code, "message": message}).encode()
