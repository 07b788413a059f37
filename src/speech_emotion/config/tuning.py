"""Settings of the hyperparameter search: the section `tune` of params.yaml. No stage of dvc.yaml reads it."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from speech_emotion.config.base import Section, suggestion
from speech_emotion.config.data import Protocol
from speech_emotion.config.training import TrainSettings


class Dimension(Section):
    """The values of one training parameter: `choices`, or a range from `low` to `high`."""

    choices: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    low: float | None = None
    high: float | None = None
    step: Annotated[float, Field(gt=0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = self.model_dump(exclude_defaults=True).keys()
        is_range = {"low", "high"} <= given <= {"low", "high", "step", "log"}
        if not is_range and given != {"choices"}:
            raise ValueError("either `choices`, or `low` and `high` (with `step` or `log`)")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError(f"a low ({self.low:g}) below high ({self.high:g})")
            if self.log and (self.low <= 0 or self.step is not None):
                raise ValueError("with `log`, a low above 0 and no step")
        return self


class RecipeSettings(Section):
    """How a trial is trained: shorter than `train`, on fewer utterances."""

    share: Annotated[float, Field(gt=0, le=1)]
    """Of the training utterances of each speaker and emotion. Validation uses all of its utterances."""
    epochs: Annotated[int, Field(ge=1, le=10000)]

    def __str__(self) -> str:
        share = "all training utterances" if self.share == 1 else f"{self.share:.0%} of the training utterances"
        return f"trained {self.epochs} epochs on {share}"


class PrunerSettings(Section):
    """When a trial is stopped early, compared with other trials at the same epoch."""

    kind: Literal["median", "hyperband", "none"]
    startup_trials: Annotated[int, Field(ge=0)]
    warmup_epochs: Annotated[int, Field(ge=1)]


class PromotionSettings(Section):
    """The best trials are trained again as `train` does, on all utterances; these trainings decide the winner."""

    trials: Annotated[int, Field(ge=0, le=100)]
    share: Annotated[float, Field(ge=0, lt=1)]


class TuneSettings(Section):
    """The search."""

    protocol: Protocol
    folds: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    second: Literal["parameters"] | None
    trials: Annotated[int, Field(ge=1, le=100000)]
    minutes: Annotated[float, Field(gt=0)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    sampler: Literal["tpe", "random", "nsga_ii"]
    pruner: PrunerSettings
    recipe: RecipeSettings
    promotion: PromotionSettings
    storage: Annotated[str, Field(min_length=1)] | None
    heartbeat_seconds: Annotated[int, Field(ge=1)]
    retries: Annotated[int, Field(ge=0, le=100)]
    space: dict[str, Any]
    """By parameter name: see `Dimension`."""

    @field_validator("space")
    @classmethod
    def _known(cls, space: dict[str, Any]) -> dict[str, Any]:
        if not space:
            raise ValueError("at least one training parameter, such as `train.optimizer.learning_rate: {low, high}`")
        # the recipe sets the epochs
        known = [name for name in _leaves(TrainSettings.model_json_schema()) if name != "train.epochs"]
        for name, value in space.items():
            if name not in known:
                raise ValueError(f"training parameters except epochs, found '{name}'.{suggestion(name, known)}")
            _dimension(name, value)
        return space

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.second is not None and self.pruner.kind != "none":
            raise ValueError("with a second objective, pruner.kind 'none': Optuna prunes single-objective studies only")
        return self

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """The space, validated."""
        return {name: _dimension(name, value) for name, value in self.space.items()}


def parameter_type(name: str) -> str:
    """Return the JSON type of a training parameter, such as ``integer``, ignoring null."""
    return _leaves(TrainSettings.model_json_schema())[name]


def _dimension(name: str, value: Any) -> Dimension:
    try:
        return Dimension.model_validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        where = ".".join([name, *map(str, mistake["loc"])])
        raise ValueError(f"for {where}: {mistake['msg'].removeprefix('Value error, ')}") from None


def _leaves(schema: Mapping[str, Any], part: Mapping[str, Any] | None = None, prefix: str = "train") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in (part or schema)["properties"].items():
        options = [one for one in value.get("anyOf", [value]) if one.get("type") != "null"]
        inner = options[0]
        if "$ref" in inner:
            section = schema["$defs"][inner["$ref"].rpartition("/")[2]]
            found |= _leaves(schema, section, f"{prefix}.{name}")
        elif inner.get("type") != "object":  # a mapping, such as corpus_weights, cannot be searched
            found[f"{prefix}.{name}"] = inner.get("type", "any")
    return found
