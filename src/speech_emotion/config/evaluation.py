"""The sections `evaluate`, `robustness` and `explain`."""

from typing import Annotated

from pydantic import Field

from speech_emotion.config.base import Section


class BootstrapSettings(Section):
    """The bootstrap of every interval."""

    resamples: Annotated[int, Field(ge=100, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class EvaluateSettings(Section):
    """Settings of the metrics."""

    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    bootstrap: BootstrapSettings
    enrolment_draws: Annotated[int, Field(ge=1, le=1000)] = 20


class RobustnessSettings(Section):
    """Settings of the predictions of modified recordings."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    utterances: Annotated[int, Field(ge=10)]
    """At most, per protocol; spread evenly over speakers and emotions. Each is predicted in every condition."""


class ExplainSettings(Section):
    """Settings of the explanation and of the check of labels."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    utterances: Annotated[int, Field(ge=2, le=1000)]
    folds: Annotated[int, Field(ge=2, le=20)]
