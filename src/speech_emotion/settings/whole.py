"""Takes params.yaml; gives all of it, checked: what `preset`, `tune` and `promote` look at, and no stage does."""

from pathlib import Path
from typing import Any

from speech_emotion.errors import UserError
from speech_emotion.settings.augment import AugmentSettings
from speech_emotion.settings.base import PARAMS, Section, describe, parse_section, read_params, unknown_sections
from speech_emotion.settings.baselines import BaselinesSettings
from speech_emotion.settings.calibrate import CalibrateSettings
from speech_emotion.settings.compute import ComputeSettings
from speech_emotion.settings.corpus import CorpusSettings, DownloadSettings, PrepareSettings
from speech_emotion.settings.evaluate import EvaluateSettings
from speech_emotion.settings.explain import ExplainSettings
from speech_emotion.settings.featurize import FeaturizeSettings
from speech_emotion.settings.monitor import MonitorSettings
from speech_emotion.settings.package import PackageSettings
from speech_emotion.settings.promote import PromoteSettings
from speech_emotion.settings.robustness import RobustnessSettings
from speech_emotion.settings.serve import ServeSettings
from speech_emotion.settings.split import SplitSettings
from speech_emotion.settings.survey import SurveySettings
from speech_emotion.settings.train import TrainSettings
from speech_emotion.settings.tune import TuneSettings
from speech_emotion.settings.windows import WindowSettings

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
