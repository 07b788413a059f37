"""The section `calibrate`: what a package says of how sure it is."""

from typing import Annotated

from pydantic import Field

from speech_emotion.settings.base import Section


class CalibrateSettings(Section):
    """Temperature and threshold are fitted on the validation part."""

    risk: Annotated[float, Field(gt=0, lt=1)]
    """Share of wrong answers that is accepted among those given as sure."""
