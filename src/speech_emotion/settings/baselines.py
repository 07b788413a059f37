"""The section `baselines`: what the model is compared with."""

from typing import Annotated

from pydantic import Field

from speech_emotion.settings.base import Section


class BaselinesSettings(Section):
    """Seeds alone: the baselines are what they are, so that tables can be compared."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
