"""The section `baselines`: what the model is compared with."""

from typing import Annotated

from pydantic import Field

from speech_emotion.settings.base import Section


class BaselinesSettings(Section):
    """How long the baselines take; what they are does not change, so that tables can be compared."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    shuffles: Annotated[int, Field(ge=2, le=1000)]
    """Of the labels, for the control: on a left-out speaker a model of one shuffle may reach .05 or .25 by luck."""
    reference_epochs: Annotated[int, Field(ge=1)] | None
    """None: as many as the reference model had."""
