"""The sections `serve`, `windows` and `package` of params.yaml."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from speech_emotion.config.base import Section

Seconds = Annotated[float, Field(gt=0, le=3600)]


class ServeSettings(Section):
    """Limits of the server. No result depends on them. The defaults apply without params.yaml, as in a container."""

    body_mb: Annotated[float, Field(gt=0, le=1024)] = 16.0
    recordings: Annotated[int, Field(ge=1, le=100_000)] = 64
    processes: Annotated[int, Field(ge=1, le=1024)] | None = None
    waiting: Annotated[int, Field(ge=0, le=100_000)] = 128
    answer_seconds: Seconds = 30.0
    receive_seconds: Seconds = 30.0
    stop_seconds: Seconds = 30.0
    poll_seconds: Seconds = 5.0


class WindowSettings(Section):
    """Length and hop of the windows that a long recording is cut into."""

    seconds: Annotated[float, Field(ge=0.5, le=60)]
    hop_seconds: Annotated[float, Field(ge=0.1, le=60)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.hop_seconds > self.seconds:
            raise ValueError(f"a hop_seconds ({self.hop_seconds}) of at most seconds ({self.seconds}), to avoid gaps")
        return self


class PackageSettings(Section):
    """Accepted duration of a recording."""

    min_seconds: Annotated[float, Field(gt=0)]
    max_seconds: Annotated[float, Field(gt=0, le=3600)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"a min_seconds ({self.min_seconds}) below max_seconds ({self.max_seconds})")
        return self
