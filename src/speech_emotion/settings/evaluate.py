"""The section `evaluate`: how predictions are judged."""

from typing import Annotated

from pydantic import Field

from speech_emotion.settings.base import Section


class BootstrapSettings(Section):
    """Of every interval."""

    resamples: Annotated[int, Field(ge=100, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class EvaluateSettings(Section):
    """What the metrics depend on beside the predictions."""

    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    """Equal-width confidence bins of the expected calibration error."""
    bootstrap: BootstrapSettings
