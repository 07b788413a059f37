"""The section `monitor`: what is written down of answers, and when `speech-emotion monitor` calls a difference one."""

from typing import Annotated, Final

from pydantic import Field

from speech_emotion.config.base import Section

Least = Annotated[float, Field(ge=0)]


class LogSettings(Section):
    """A file of the log is written when it has so many rows, or its first row is so old."""

    rows: Annotated[int, Field(ge=1, le=1_000_000)]
    minutes: Annotated[float, Field(gt=0, le=1440)]


class LeastSettings(Section):
    """The smallest difference of each measure that matters to whoever operates the service."""

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
    """Of sample rates, channels, labels, sure answers: the share of recordings that are in another class."""


class MonitorSettings(Section):
    """When a period differs from the training reference."""

    rows: Annotated[int, Field(ge=20, le=1_000_000)]
    """Fewer say nothing."""
    false_discovery: Annotated[float, Field(gt=0, le=0.5)]
    """Share of false alarms among all, at most (Benjamini and Yekutieli)."""
    halves: Annotated[float, Field(ge=0, le=100)]
    """A difference is larger than so many times what two random halves of the training data differ by."""
    least: LeastSettings
    draws: Annotated[int, Field(ge=100, le=100_000)]
    """Of the bootstrap behind an interval."""
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
"""Where there is no params.yaml: a container, or a machine that only serves."""


class SurveySettings(Section):
    """What the stage draws."""

    seed: Annotated[int, Field(ge=0)]
    halvings: Annotated[int, Field(ge=20, le=10_000)]
    """How often the training data is divided into two random halves, to see how much they differ."""
