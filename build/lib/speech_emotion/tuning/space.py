"""Convert between Optuna's parameters and training settings, for the search space of params.yaml."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from speech_emotion.config.base import PARAMS, parse_section
from speech_emotion.config.training import TrainSettings
from speech_emotion.config.tuning import Dimension, parameter_type
from speech_emotion.core.errors import UserError
from speech_emotion.tracking.connection import flat

if TYPE_CHECKING:
    from optuna.trial import Trial


class Space:
    """The search space around the current training settings.

    Parameters outside the space keep their current values.

    Raises
    ------
    UserError
        The space contains values that training rejects, or does not contain the current settings.
    """

    def __init__(self, dimensions: Mapping[str, Dimension], train: TrainSettings) -> None:
        self.dimensions = dict(dimensions)
        self._current = flat({"train": train.model_dump(mode="json")})
        for name, dimension in dimensions.items():
            if name not in self._current:
                parent = name.rpartition(".")[0]
                raise UserError(f"{PARAMS}: tune.space: '{name}' cannot be searched while {parent} is null.")
            for value in _extremes(name, dimension):
                try:
                    self.settings({name: value})
                except UserError as error:
                    raise UserError(f"tune.space.{name}: train does not accept {json.dumps(value)}.\n{error}") from None
        self.current()

    def suggest(self, trial: "Trial") -> dict[str, Any]:
        """Let Optuna choose, and return values by parameter name."""
        for name, dimension in self.dimensions.items():
            low, high = dimension.low or 0.0, dimension.high or 0.0
            if dimension.choices is not None:
                trial.suggest_categorical(name, [_category(choice) for choice in dimension.choices])
            elif dimension.layers is not None and dimension.units is not None:
                trial.suggest_categorical(f"{name}.layers", dimension.layers)
                trial.suggest_categorical(f"{name}.units", dimension.units)
            elif parameter_type(name) == "integer":
                trial.suggest_int(name, int(low), int(high), step=int(dimension.step or 1), log=dimension.log)
            else:
                trial.suggest_float(name, low, high, step=dimension.step, log=dimension.log)
        return self.values(trial.params)

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by parameter name for a trial's Optuna parameters.

        A trial that was interrupted while it chose lacks some; its Optuna parameters are returned as they are.
        """
        values: dict[str, Any] = {}
        try:
            for name, dimension in self.dimensions.items():
                if dimension.choices is not None:
                    values[name] = next(one for one in dimension.choices if _category(one) == parameters[name])
                elif dimension.layers is not None:
                    values[name] = [int(parameters[f"{name}.units"])] * int(parameters[f"{name}.layers"])
                else:
                    values[name] = parameters[name]
        except KeyError:
            return dict(parameters)
        return values

    def settings(self, values: Mapping[str, Any]) -> TrainSettings:
        """Return the training settings with these values; raise a UserError if they do not go together."""
        return parse_section("train", TrainSettings, nested({**self._current, **values})["train"])

    def current(self) -> dict[str, Any]:
        """Return the current settings as Optuna parameters; raise a UserError if one is outside the space."""
        parameters: dict[str, Any] = {}
        for name, dimension in self.dimensions.items():
            value = self._current[name]
            if not _contains(dimension, value):
                raise UserError(
                    f"{PARAMS}: tune.space.{name}: does not contain the current value {json.dumps(value)}. Add it: the "
                    "first trial uses the current settings, so that the result is never worse than they are."
                )
            if dimension.layers is not None and dimension.units is not None:
                parameters[f"{name}.layers"] = len(value)
                parameters[f"{name}.units"] = value[0] if value else dimension.units[0]
            else:
                parameters[name] = _category(value)
        return parameters


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


def _category(choice: Any) -> Any:
    """Return a choice in a type that Optuna stores: lists as JSON."""
    return json.dumps(choice) if isinstance(choice, list | tuple | dict) else choice


def _contains(dimension: Dimension, value: Any) -> bool:
    if dimension.choices is not None:
        return any(_category(one) == _category(value) for one in dimension.choices)
    if dimension.layers is not None and dimension.units is not None:
        return len(value) in dimension.layers and len({*value}) <= 1 and {*value} <= {*dimension.units}
    low, high = dimension.low or 0, dimension.high or 0
    if value is None or not low <= value <= high:
        return False
    steps = 0.0 if dimension.step is None else (value - low) / dimension.step
    return abs(steps - round(steps)) < 1e-8


def _extremes(name: str, dimension: Dimension) -> list[Any]:
    """Return the values at which a mistake in a dimension shows."""
    if dimension.choices is not None:
        return list(dimension.choices)
    if dimension.layers is not None and dimension.units is not None:
        return [[units] * layers for units in dimension.units for layers in dimension.layers]
    integer = parameter_type(name) == "integer"
    return [int(value) if integer else value for value in (dimension.low, dimension.high) if value is not None]
