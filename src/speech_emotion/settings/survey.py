"""The section `survey`: how well the training reference that a package carries knows itself."""

from typing import Annotated

from pydantic import Field

from speech_emotion.settings.base import Section


class SurveySettings(Section):
    """What the stage draws."""

    seed: Annotated[int, Field(ge=0)]
    halvings: Annotated[int, Field(ge=20, le=10_000)]
    """How often the training data is divided into two random halves, to see how much they differ."""
