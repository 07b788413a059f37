"""Takes an answer; gives the bytes in which a worker hands it to the server, and in which a client is refused."""

import json
import struct
from typing import Final

HEADER: Final = struct.Struct(">HI")
"""In front of a worker's answer: the HTTP status, and how many recordings were answered."""


def refusal(message: str, code: str = "INVALID_PARAMETER_VALUE") -> bytes:
    """Return the JSON that MLflow's clients expect of a refused request."""
    return json.dumps({"error_code": code, "message": message}).encode()
