"""Decode base64 recordings and format predictions as JSON rows, the same in every server."""

import base64
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.core.errors import UserError

if TYPE_CHECKING:
    from speech_emotion.inference.recognizer import Prediction
    from speech_emotion.inference.windows import Answer

COLUMN: Final = "audio"
PROFILE: Final = "profile"
"""Names of the input columns; the second is optional."""

LONGEST_BYTES: Final = 32 * 2**20
"""Size limit of a recording; a minute of 24-bit stereo at 48 kHz has 17 million bytes."""

_WHITESPACE: Final = b" \t\r\n\v\f"
_DATA_URL: Final = re.compile(r"data:[^,]{0,200};base64,")


def decode_base64(text: str) -> bytes:
    """Decode base64 text, ignoring line breaks and the prefix of a data URL; at most `LONGEST_BYTES`."""
    if len(text) > LONGEST_BYTES * 4 // 3:
        raise UserError(f"is longer than {LONGEST_BYTES // 2**20} MiB")
    body = text[match.end() :] if (match := _DATA_URL.match(text)) else text
    try:
        recording = base64.b64decode(body, validate=True)
    except ValueError:
        try:
            # on bytes, because splitting text into words takes fifty times the memory
            recording = base64.b64decode(body.encode("ascii").translate(None, _WHITESPACE), validate=True)
        except ValueError:
            raise UserError("is not base64; over HTTP, send the base64 text of the file") from None
    if not recording:
        raise UserError("is empty")
    return recording


def row(answer: "Answer", versions: Mapping[str, str]) -> dict[str, Any]:
    """Return the predictions of one recording and the `versions` of the model, ready for JSON."""
    windows = [{"start": one.start, "end": one.end, **_prediction(one.prediction)} for one in answer.windows]
    return {**_prediction(answer.whole), "windows": windows, **versions}


def _prediction(prediction: "Prediction") -> dict[str, Any]:
    return {
        "label": prediction.label,
        "confidence": prediction.confidence,
        "sure": prediction.sure,
        "probabilities": dict(prediction.probabilities),
    }
