"""The section `windows`: how a recording that is longer than one window is cut."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from speech_emotion.settings.base import Section


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
