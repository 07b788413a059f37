"""Convert between Optuna's parameters and training settings, for the search space of params.yaml."""

import json
from collections.abc import Mapping
from typing import Any

from optuna.trial import BaseTrial

from speech_emotion.config.base import PARAMS, parse_section
from speech_emotion.config.training import TrainSettings
from speech_emotion.config.tuning import Dimension, parameter_type
from speech_emotion.core.errors import UserError
from speech_emotion.tracking.connection import flat


class Space:
    """The search space around the current training settings. Parameters outside the space keep their current values.

    Raises a UserError if it contains values that training rejects, or does not contain the current settings.
    """

    def __init__(self, dimensions: Mapping[str, Dimension], train: TrainSettings) -> None:
        self.dimensions = dict(dimensions)
        self._current = flat({"train": train.model_dump(mode="json")})
        for name, dimension in dimensions.items():
            if name not in self._current:
                parent = name.rpartition(".")[0]
                raise UserError(f"{PARAMS}: tune.space: '{name}' cannot be searched while {parent} is null.")
            for value in dimension.choices or _limits(name, dimension):
                try:
                    self.settings({name: value})
                except UserError as error:
                    raise UserError(f"tune.space.{name}: train does not accept {json.dumps(value)}.\n{error}") from None
        self.current()

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """Let Optuna choose, and return values by parameter name."""
        for name, dimension in self.dimensions.items():
            if dimension.choices is not None:
                trial.suggest_categorical(name, [_category(option) for option in dimension.choices])
                continue
            low, high = _limits(name, dimension)
            if parameter_type(name) == "integer":
                trial.suggest_int(name, low, high, step=int(dimension.step or 1), log=dimension.log)
            else:
                trial.suggest_float(name, low, high, step=dimension.step, log=dimension.log)
        return self.values(trial.params)

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by parameter name for a trial's Optuna parameters."""
        values = dict(parameters)
        for name, dimension in self.dimensions.items():
            for option in dimension.choices or ():
                if name in values and _category(option) == parameters[name]:
                    values[name] = option
        return values

    def settings(self, values: Mapping[str, Any]) -> TrainSettings:
        """Return the training settings with these values; raise a UserError if they do not go together."""
        return parse_section("train", TrainSettings, nested({**self._current, **values})["train"])

    def current(self) -> dict[str, Any]:
        """Return the current settings as Optuna parameters; raise a UserError if one is outside the space."""
        for name, dimension in self.dimensions.items():
            if not _contains(name, dimension, self._current[name]):
                value = json.dumps(self._current[name])
                raise UserError(
                    f"{PARAMS}: tune.space.{name}: does not contain the current value {value}. Add it: the first trial "
                    "uses the current settings."
                )
        return {name: _category(self._current[name]) for name in self.dimensions}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with dotted names as nested mappings.

    >>> nested({"train.optimizer.momentum": 0.9})
    {'train': {'optimizer': {'momentum': 0.9}}}
    """
    whole: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        inner = whole
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return whole


def _category(option: Any) -> Any:
    """Return an option in a type that Optuna stores: lists as JSON."""
    return json.dumps(option) if isinstance(option, list | tuple | dict) else option


def _limits(name: str, dimension: Dimension) -> tuple[Any, Any]:
    number = int if parameter_type(name) == "integer" else float
    return number(dimension.low or 0), number(dimension.high or 0)


def _contains(name: str, dimension: Dimension, value: Any) -> bool:
    if dimension.choices is not None:
        return any(_category(option) == _category(value) for option in dimension.choices)
    low, high = _limits(name, dimension)
    if value is None or not low <= value <= high:
        return False
    steps = 0.0 if dimension.step is None else (value - low) / dimension.step
    return abs(steps - round(steps)) < 1e-8
