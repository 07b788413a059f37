"""The section `serve`: what `speech-emotion serve` takes on, and how long it waits. No result depends on it."""

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from speech_emotion.config.base import Section

Seconds = Annotated[float, Field(gt=0, le=3600)]


class ServeSettings(Section):
    """Limits of the server."""

    body_mb: Annotated[float, Field(gt=0, le=1024)]
    """MiB of a request; a larger one is refused before it is read."""
    recordings: Annotated[int, Field(ge=1, le=100_000)]
    """Of one request."""
    processes: Annotated[int, Field(ge=1, le=1024)] | None
    """Processes that answer; null: one a core."""
    waiting: Annotated[int, Field(ge=0, le=100_000)]
    """Requests that may wait for a worker; those beyond get 503."""
    answer_seconds: Seconds
    """That a request may take, waiting included."""
    receive_seconds: Seconds
    """That a request may take to arrive, and its answer to be taken."""
    stop_seconds: Seconds
    """That a stop waits for what was begun."""
    poll_seconds: Seconds
    """Between two looks for a new champion."""


DEFAULT: Final = ServeSettings(
    body_mb=16.0,
    recordings=64,
    processes=None,
    waiting=16,
    answer_seconds=30.0,
    receive_seconds=30.0,
    stop_seconds=30.0,
    poll_seconds=5.0,
)
"""Where there is no params.yaml: a container, or a machine that only serves."""


class WindowSettings(Section):
    """Windows of equal length that overlap."""

    seconds: Annotated[float, Field(ge=0.5, le=60)]
    hop_seconds: Annotated[float, Field(ge=0.1, le=60)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.hop_seconds > self.seconds:
            raise ValueError(
                f"a hop_seconds ({self.hop_seconds}) of at most seconds ({self.seconds}): nothing is unheard"
            )
        return self


class PackageSettings(Section):
    """Limits that every user of the package keeps to."""

    min_seconds: Annotated[float, Field(gt=0)]
    max_seconds: Annotated[float, Field(gt=0, le=3600)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"a min_seconds ({self.min_seconds}) below max_seconds ({self.max_seconds})")
        return self
