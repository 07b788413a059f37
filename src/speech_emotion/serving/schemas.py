"""Define requests and responses of /invocations; the same models validate them and describe them in OpenAPI."""

from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from speech_emotion.core.errors import UserError
from speech_emotion.inference.response import COLUMN

FORMS: Final = ("dataframe_records", "dataframe_split", "inputs", "instances")
"""MLflow's forms of a request: each is an object with one of these keys."""

_TOKENS_PER_RECORDING: Final = 2100
"""Commas and brackets of a recording and its speaker profile."""

_TOKENS_BESIDE: Final = 1000
"""Commas and brackets allowed beside the recordings: JSON of empty lists takes thirty times its size in memory."""

Audio = Annotated[
    str,
    Field(description="base64 text of an audio file, or a data URL", json_schema_extra={"contentEncoding": "base64"}),
]
Profile = Annotated[str | None, Field(description="the text of a profile that `speech-emotion enroll` wrote")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Recording(_Strict):
    """One row."""

    audio: Audio
    profile: Profile = None
    references: Annotated[list[Audio], Field(description="recordings of the speaker, instead of a profile")] = []

    @model_validator(mode="after")
    def _check_speaker(self) -> Self:
        if self.profile and self.references:
            raise ValueError("give a profile or references, not both")
        return self


class SplitTable(_Strict):
    """A pandas data frame in the orient `split`."""

    columns: tuple[Literal["audio"]] | tuple[Literal["audio"], Literal["profile"]]
    data: Annotated[list[tuple[Audio] | tuple[Audio, Profile]], Field(min_length=1)]
    index: Any = None

    @model_validator(mode="after")
    def _check_cells(self) -> Self:
        if any(len(row) != len(self.columns) for row in self.data):
            raise ValueError(f"each row needs a cell for each of the {len(self.columns)} columns")
        return self


class Columns(_Strict):
    """Columns by name; one profile may stand for all recordings."""

    audio: Audio | Annotated[list[Audio], Field(min_length=1)]
    profile: Profile | list[Profile] = None

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if isinstance(self.profile, list) and (isinstance(self.audio, str) or len(self.profile) != len(self.audio)):
            raise ValueError("audio and profile differ in length")
        return self


Rows = Annotated[list[Recording], Field(min_length=1)]


class Request(_Strict):
    """A scoring request in exactly one of MLflow's forms."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [form]} for form in FORMS]})

    # the defaults are never read: exactly one form is given
    dataframe_records: Rows = Field(default_factory=list)
    dataframe_split: SplitTable = Field(default_factory=SplitTable.model_construct)
    inputs: Columns | Rows = Field(default_factory=list)
    instances: Rows = Field(default_factory=list)
    params: Annotated[dict[str, Any] | None, Field(description="Accepted for MLflow clients and ignored.")] = None

    @model_validator(mode="before")
    @classmethod
    def _check_form(cls, content: Any) -> Any:
        if not isinstance(content, dict) or len(content.keys() & set(FORMS)) != 1:
            example = f'{{"dataframe_records": [{{"{COLUMN}": "<base64 of a file>"}}]}}'
            raise ValueError(f"expected an object with exactly one of the keys {', '.join(FORMS)}: {example}")
        return content

    def recordings(self) -> list[Recording]:
        """Return the rows."""
        [content] = [getattr(self, form) for form in FORMS if form in self.model_fields_set]
        if isinstance(content, SplitTable):
            return [Recording.model_validate(dict(zip(content.columns, row, strict=True))) for row in content.data]
        if isinstance(content, Columns):
            audio = [content.audio] if isinstance(content.audio, str) else content.audio
            profiles = content.profile if isinstance(content.profile, list) else [content.profile] * len(audio)
            return [Recording(audio=one, profile=profile) for one, profile in zip(audio, profiles, strict=True)]
        return list(content)


_ANSWER: Final = {"label": "sad", "confidence": 0.9, "sure": True, "probabilities": {"happy": 0.1, "sad": 0.9}}
_MODEL: Final = {"model": "speech-emotion-tess", "model_version": "3", "package_digest": 64 * "0"}
EXAMPLE: Final = {"predictions": [{**_ANSWER, "windows": [{"start": 0.0, "end": 3.0, **_ANSWER}], **_MODEL}]}
"""A response: one prediction per recording, with windows if the recording is longer than one."""


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
    return Refusal(error_code=code, message=message).model_dump_json().encode()


def parse(body: bytes, *, most: int) -> list[Recording]:
    """Return the recordings of a request.

    Raises a UserError if the body is not valid, or holds more than `most` recordings, references included. The message
    repeats nothing of the body.
    """
    limit = _TOKENS_PER_RECORDING * most + _TOKENS_BESIDE
    if len(body) > limit and (tokens := sum(map(body.count, (b",", b"[", b"{")))) > limit:
        raise UserError(f"the request has {tokens} commas and brackets; at most {most} recordings are accepted")
    try:
        rows = Request.model_validate_json(body).recordings()
    except ValidationError as error:
        raise UserError(_first_problem(error)) from None
    count = len(rows) + sum(len(row.references) for row in rows)
    if count > most:
        raise UserError(f"the request has {count} recordings; at most {most} are accepted")
    return rows


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # only our own names: pydantic adds those of its types, and of keys that the client made up
    ours = {*Request.model_fields, *SplitTable.model_fields, *Recording.model_fields}
    place = [str(part) for part in problem["loc"] if isinstance(part, int) or part in ours]
    return f"{'.'.join(place) or 'the body'}: {problem['msg'].removeprefix('Value error, ')}"
