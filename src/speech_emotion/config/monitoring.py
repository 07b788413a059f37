"""The sections `monitor`, of the prediction log and the drift report, and `survey`, of the reference data."""

from typing import Annotated, Final

from pydantic import Field

from speech_emotion.config.base import Section

Least = Annotated[float, Field(ge=0)]


class LogSettings(Section):
    """When a file of the log is written: at a number of rows, or at an age of its first row."""

    rows: Annotated[int, Field(ge=1, le=1_000_000)]
    minutes: Annotated[float, Field(gt=0, le=1440)]


class LeastSettings(Section):
    """The smallest difference of each measure that counts as drift."""

    seconds: Least
    level_dbfs: Least
    """dB."""
    peak_dbfs: Least
    """dB."""
    noise_dbfs: Least
    """dB."""
    voiced_share: Least
    pitch_hz: Least
    pitch_range: Least
    """Semitones."""
    centroid_hz: Least
    bandwidth_hz: Least
    confidence: Least
    shares: Annotated[float, Field(ge=0, le=1)]
    """Of sample rates, channels, labels and sure answers: total variation distance."""


class MonitorSettings(Section):
    """When a period has drifted from the training reference."""

    rows: Annotated[int, Field(ge=20, le=1_000_000)]
    """Periods with fewer rows are not tested."""
    false_discovery: Annotated[float, Field(gt=0, le=0.5)]
    """False discovery rate (Benjamini and Yekutieli)."""
    halves: Annotated[float, Field(ge=0, le=100)]
    """Drift exceeds the difference of two random halves of the training data by this factor."""
    least: LeastSettings
    draws: Annotated[int, Field(ge=100, le=100_000)]
    """Of the bootstrap."""
    seed: Annotated[int, Field(ge=0)]
    log: LogSettings


DEFAULT: Final = MonitorSettings(
    rows=100,
    false_discovery=0.01,
    halves=1.0,
    least=LeastSettings(
        seconds=0.1,
        level_dbfs=1.0,
        peak_dbfs=1.0,
        noise_dbfs=2.0,
        voiced_share=0.05,
        pitch_hz=10.0,
        pitch_range=1.0,
        centroid_hz=100.0,
        bandwidth_hz=500.0,
        confidence=0.03,
        shares=0.05,
    ),
    draws=1000,
    seed=7,
    log=LogSettings(rows=1000, minutes=10.0),
)
"""Used without params.yaml, for instance in a container."""


class SurveySettings(Section):
    """Random halves of the training data."""

    seed: Annotated[int, Field(ge=0)]
    halvings: Annotated[int, Field(ge=20, le=10_000)]
    """Number of divisions into two random halves."""
