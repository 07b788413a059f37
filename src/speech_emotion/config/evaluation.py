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
    """Equal-width confidence bins of the expected calibration error."""
    bootstrap: BootstrapSettings
    enrolment_draws: Annotated[int, Field(ge=1, le=1000)] = 20
    """Random choices of the reference recordings of each speaker, for packages that accept speaker profiles."""


class RobustnessSettings(Section):
    """Settings of the predictions of modified recordings."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Of the noise."""
    utterances: Annotated[int, Field(ge=10)]
    """At most, per protocol; spread evenly over speakers and emotions. Each is predicted in every condition."""


class ExplainSettings(Section):
    """Settings of the explanation and of the check of labels."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Of the choice of utterances and the folds."""
    utterances: Annotated[int, Field(ge=2, le=1000)]
    """At most, per emotion and speaker, that are explained."""
    folds: Annotated[int, Field(ge=2, le=20)]
    """Of the cross-validation within each speaker that finds suspected labels."""
