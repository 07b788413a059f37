"""The section `package`: what the model that leaves the pipeline accepts."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from speech_emotion.settings.base import Section


class PackageSettings(Section):
    """Limits that every user of the package keeps to."""

    min_seconds: Annotated[float, Field(gt=0)]
    max_seconds: Annotated[float, Field(gt=0, le=3600)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"a min_seconds ({self.min_seconds}) below max_seconds ({self.max_seconds})")
        return self
