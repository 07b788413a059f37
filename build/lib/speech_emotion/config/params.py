"""Load and validate all of params.yaml, for the commands `preset`, `tune` and `promote`."""

from pathlib import Path
from typing import Any

from speech_emotion.config.base import PARAMS, Section, describe, parse_section, read_params, unknown_sections
from speech_emotion.config.compute import ComputeSettings
from speech_emotion.config.data import CorpusSettings, DownloadSettings, PrepareSettings, SplitSettings
from speech_emotion.config.evaluation import EvaluateSettings, ExplainSettings, RobustnessSettings
from speech_emotion.config.features import AugmentSettings, FeaturizeSettings
from speech_emotion.config.monitoring import MonitorSettings, SurveySettings
from speech_emotion.config.registry import PromoteSettings
from speech_emotion.config.serving import PackageSettings, ServeSettings, WindowSettings
from speech_emotion.config.training import BaselinesSettings, CalibrateSettings, TrainSettings
from speech_emotion.config.tuning import TuneSettings
from speech_emotion.core.errors import UserError

__all__ = ["Settings", "describe", "read_settings"]


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
    survey: SurveySettings
    package: PackageSettings
    windows: WindowSettings
    promote: PromoteSettings
    serve: ServeSettings
    monitor: MonitorSettings
    tune: TuneSettings
    compute: ComputeSettings


def read_settings(path: Path = PARAMS) -> Settings:
    """Read and check all of params.yaml.

    Raises
    ------
    UserError
        A section is missing or unknown, or a key in one is wrong; each mistake is a line of the message.
    """
    values = read_params(path)
    fields = Settings.model_fields
    unknown = unknown_sections(values, path)
    missing = [name for name in fields if name not in values]
    if unknown or missing:
        raise UserError("\n".join(unknown + [f"{path}: the section '{name}:' is missing." for name in missing]))
    sections, mistakes = {}, []
    for name, field in fields.items():
        model: Any = field.annotation
        try:
            sections[name] = parse_section(name, model, values[name], path)
        except UserError as error:
            mistakes.append(str(error))
    if mistakes:
        raise UserError("\n".join(mistakes))
    return Settings(**sections)
