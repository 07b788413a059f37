"""The section `explain`: how it is found out what the model listens to."""

from typing import Annotated

from pydantic import Field

from speech_emotion.config.base import Section


class BootstrapSettings(Section):
    """Of every interval."""

    resamples: Annotated[int, Field(ge=100, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class EvaluateSettings(Section):
    """What the metrics depend on beside the predictions."""

    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    """Equal-width confidence bins of the expected calibration error."""
    bootstrap: BootstrapSettings


class RobustnessSettings(Section):
    """Number of evaluated utterances per protocol; each is decoded and predicted in every condition."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Of the noise."""
    utterances: Annotated[int, Field(ge=10)]
    """At most, of each protocol; spread evenly over speakers and emotions."""


class ExplainSettings(Section):
    """What the explanation depends on beside models and recordings."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Of the choice of utterances, the untrained network and the map."""
    utterances: Annotated[int, Field(ge=2, le=1000)]
    """Of each emotion and speaker, at most: what occlusion and the map of embeddings look at."""
    folds: Annotated[int, Field(ge=2, le=20)]
    """Of the cross-validation within each speaker that the check of labels rests on."""
