"""Parse MLflow scoring requests and build their responses.

The same models validate a request in the worker and describe it in the OpenAPI document.
"""

import json
from functools import reduce
from operator import or_
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from speech_emotion.core.errors import UserError
from speech_emotion.inference.response import COLUMN

Audio = Annotated[
    str,
    Field(description="base64 text of an audio file, or a data URL", json_schema_extra={"contentEncoding": "base64"}),
]
Params = Annotated[dict[str, Any] | None, Field(description="Accepted for MLflow clients and ignored.")]
Probability = Annotated[float, Field(ge=0, le=1)]

_TOKENS_PER_RECORDING: Final = 4
_TOKENS_BESIDE: Final = 1000
"""Commas and brackets allowed beside the recordings: JSON of empty lists takes thirty times its size in memory."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Recording(_Strict):
    """One row."""

    audio: Audio


class SplitTable(_Strict):
    """A pandas data frame in the orient `split`."""

    columns: tuple[Literal["audio"]]
    data: Annotated[list[tuple[Audio]], Field(min_length=1)]
    index: Any = None


class Columns(_Strict):
    """A column by name."""

    audio: Audio | Annotated[list[Audio], Field(min_length=1)]


Rows = Annotated[list[Recording], Field(min_length=1)]


class _Request(_Strict):
    params: Params = None


_FORMS: Final = {
    name: create_model(f"Request_{name}", __base__=_Request, **{name: (kind, ...)})  # type: ignore[call-overload]
    for name, kind in {
        "dataframe_records": Rows,
        "dataframe_split": SplitTable,
        "inputs": Columns | Rows,
        "instances": Rows,
    }.items()
}
"""MLflow's forms of a request: each is an object with one of these keys."""


_NAMES: Final = {*_FORMS, *Recording.model_fields, *SplitTable.model_fields, "params"}


class Prediction(BaseModel):
    """Prediction for a recording or a window."""

    label: str
    confidence: Annotated[Probability, Field(description="Probability of the label.")]
    sure: Annotated[bool, Field(description="Whether the confidence reaches the model's rejection threshold.")]
    probabilities: dict[str, Probability]


class WindowPrediction(Prediction):
    """Prediction for a part of a long recording."""

    start: Annotated[float, Field(description="seconds")]
    end: Annotated[float, Field(description="seconds")]


class RecordingPrediction(Prediction):
    """Prediction for a recording."""

    windows: Annotated[list[WindowPrediction], Field(description="Empty unless the recording exceeds one window.")]
    model: str
    model_version: str
    package_digest: str


class Predictions(BaseModel):
    """One prediction per recording, in order."""

    predictions: list[RecordingPrediction]


class Refusal(BaseModel):
    """Why a request was refused."""

    error_code: str
    message: str


class Reply(NamedTuple):
    """A worker's response; `log_rows` is a JSON list on one line, empty if there is no prediction log."""

    status: int
    body: bytes
    recordings: int = 0
    log_rows: bytes = b""
    error: str = ""


def refusal(message: str, code: str = "INVALID_PARAMETER_VALUE") -> bytes:
    """Return the JSON that MLflow clients expect for a refused request."""
    return json.dumps({"error_code": code, "message": message}).encode()


def request_schema(ref_template: str) -> dict[str, Any]:
    """Return the JSON schema of a request."""
    return TypeAdapter(reduce(or_, _FORMS.values())).json_schema(ref_template=ref_template)


def parse(body: bytes | bytearray, *, most: int) -> list[str]:
    """Return the base64 texts of a request, one per recording.

    Raises
    ------
    UserError
        The body is not valid, or holds more than `most` recordings. The message repeats nothing of the body.
    """
    tokens = sum(map(body.count, (b",", b"[", b"{")))
    if tokens > _TOKENS_PER_RECORDING * most + _TOKENS_BESIDE:
        raise UserError(f"the request has {tokens} commas and brackets; at most {most} recordings are accepted")
    content = _json(body)
    forms = [name for name in _FORMS if isinstance(content, dict) and name in content]
    if len(forms) != 1:
        example = f'{{"dataframe_records": [{{"{COLUMN}": "<base64 of a file>"}}]}}'
        raise UserError(f"expected an object with exactly one of the keys {', '.join(_FORMS)}: {example}")
    try:
        request = _FORMS[forms[0]].model_validate(content)
    except ValidationError as error:
        raise UserError(_first_problem(error)) from None
    found = _recordings(getattr(request, forms[0]))
    if len(found) > most:
        raise UserError(f"the request has {len(found)} recordings; at most {most} are accepted")
    return found


def _json(body: bytes | bytearray) -> Any:
    try:
        # by default json also accepts UTF-16 and NaN, which are not JSON
        return json.loads(body.decode("utf-8-sig"), parse_constant=_reject)
    except RecursionError:
        raise UserError("the body is JSON that is nested too deeply") from None
    except ValueError:  # UnicodeDecodeError included
        raise UserError("the body is not valid JSON in UTF-8") from None


def _reject(constant: str) -> None:
    raise ValueError(constant)


def _recordings(content: Any) -> list[str]:
    if isinstance(content, SplitTable):
        return [text for (text,) in content.data]
    if isinstance(content, Columns):
        return [content.audio] if isinstance(content.audio, str) else content.audio
    return [row.audio for row in content]


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # only our own names: pydantic adds those of its types, and of keys that the client made up
    place = [str(part) for part in problem["loc"] if isinstance(part, int) or part in _NAMES]
    return f"{'.'.join(place) or 'the body'}: {problem['msg']}"
