"""Load and validate all of params.yaml, for the commands `preset`, `tune` and `promote`."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from speech_emotion.config.base import PARAMS, Section, parse_section, read_params
from speech_emotion.config.data import CorpusSettings, DownloadSettings, PrepareSettings, SplitSettings
from speech_emotion.config.evaluation import EvaluateSettings, ExplainSettings, RobustnessSettings
from speech_emotion.config.features import AugmentSettings, FeaturizeSettings
from speech_emotion.config.monitoring import MonitorSettings, ReferenceDataSettings
from speech_emotion.config.registry import PromoteSettings
from speech_emotion.config.serving import PackageSettings, ServeSettings, WindowSettings
from speech_emotion.config.training import BaselinesSettings, CalibrateSettings, TrainSettings
from speech_emotion.config.tuning import TuneSettings


class RaySettings(Section):
    """A Ray cluster and the resources of one task."""

    address: Annotated[str, Field(min_length=1)] = "auto"
    cpus: Annotated[float, Field(gt=0, le=1024)] = 1.0
    gpus: Annotated[float, Field(ge=0, le=64)] = 0.0
    shards: str | None = None

    @field_validator("shards")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[^:]+://.+", value):
            raise ValueError(f"a URL such as s3://bucket/folder, or null, and not '{value}'")
        return value


class ComputeSettings(Section):
    """Where parallel work runs and with how many workers. No result depends on it."""

    backend: Literal["local", "ray"] = "local"
    workers: Annotated[int, Field(ge=1, le=1024)] | None
    ray: RaySettings = RaySettings()

    @property
    def cluster(self) -> RaySettings | None:
        """The cluster; None: this machine."""
        return self.ray if self.backend == "ray" else None


class Settings(Section):
    """All of params.yaml."""

    corpus: CorpusSettings
    download: DownloadSettings
    prepare: PrepareSettings
    featurize: FeaturizeSettings
    augment: AugmentSettings
    split: SplitSettings
    calibrate: CalibrateSettings
    train: TrainSettings
    evaluate: EvaluateSettings
    robustness: RobustnessSettings
    explain: ExplainSettings
    baselines: BaselinesSettings
    reference_data: ReferenceDataSettings
    package: PackageSettings
    windows: WindowSettings
    promote: PromoteSettings
    serve: ServeSettings
    monitor: MonitorSettings
    tune: TuneSettings
    compute: ComputeSettings


def read_settings(path: Path = PARAMS) -> Settings:
    """Read and validate all of params.yaml; a UserError names each missing, unknown or wrong key, one in a line."""
    return parse_section("", Settings, read_params(path), path)
