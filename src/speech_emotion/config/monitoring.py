"""The sections `monitor` (prediction log and drift report) and `reference_data`."""

from typing import Annotated

from pydantic import Field

from speech_emotion.config.base import Section

Least = Annotated[float, Field(ge=0)]


class LogSettings(Section):
    """When a file of the log is written: at a number of rows, or at an age of its first row."""

    rows: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    minutes: Annotated[float, Field(gt=0, le=1440)] = 10.0


class LeastSettings(Section):
    """The smallest difference of each measure that counts as drift."""

    seconds: Least = 0.1
    level_dbfs: Least = 1.0
    peak_dbfs: Least = 1.0
    noise_dbfs: Least = 2.0
    voiced_share: Least = 0.05
    pitch_hz: Least = 10.0
    pitch_range: Least = 1.0
    centroid_hz: Least = 100.0
    bandwidth_hz: Least = 500.0
    confidence: Least = 0.03
    shares: Annotated[float, Field(ge=0, le=1)] = 0.05


class MonitorSettings(Section):
    """When a period has drifted from the training reference. The defaults apply without params.yaml."""

    rows: Annotated[int, Field(ge=20, le=1_000_000)] = 100
    false_discovery: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    halves: Annotated[float, Field(ge=0, le=100)] = 1.0
    least: LeastSettings = LeastSettings()
    draws: Annotated[int, Field(ge=100, le=100_000)] = 1000
    seed: Annotated[int, Field(ge=0)] = 7
    log: LogSettings = LogSettings()


class ReferenceDataSettings(Section):
    """Random halves of the training data."""

    seed: Annotated[int, Field(ge=0)]
    halvings: Annotated[int, Field(ge=20, le=10_000)]
