"""Takes the search space of params.yaml; gives training settings for what Optuna suggests, and the other way round."""

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

LAYERS, UNITS = "layers", "units"


class Space:
    """What is searched, around the present training settings.

    Parameters
    ----------
    dimensions : mapping of str to Dimension
        By the names of training parameters, such as ``train.optimizer.momentum``.
    train : TrainSettings
        The present settings, which also give what is not searched.

    Raises
    ------
    UserError
        The space allows what the training refuses, or does not hold the present settings.
    """

    def __init__(self, dimensions: Mapping[str, Dimension], train: TrainSettings) -> None:
        self.dimensions, self.train = dict(dimensions), train
        self._present = flat({"train": train.model_dump(mode="json")})
        for name in dimensions:
            if name not in self._present:
                parent = name.rpartition(".")[0]
                raise UserError(f"{PARAMS}: tune.space: '{name}' cannot be searched while {parent} is null.")
        for name, dimension in dimensions.items():
            for value in _ends(name, dimension):
                try:
                    self.settings({name: value})
                except UserError as error:
                    raise UserError(f"tune.space.{name}: the training refuses {json.dumps(value)}.\n{error}") from None
        self.current()

    def suggest(self, trial: "Trial") -> dict[str, Any]:
        """Have Optuna choose, and return the values by the parameters' names."""
        for name, dimension in self.dimensions.items():
            if dimension.choices is not None:
                trial.suggest_categorical(name, [_category(choice) for choice in dimension.choices])
            elif dimension.layers is not None and dimension.units is not None:
                trial.suggest_categorical(f"{name}.{LAYERS}", dimension.layers)
                trial.suggest_categorical(f"{name}.{UNITS}", dimension.units)
            elif parameter_type(name) == "integer":
                bounds = int(dimension.low or 0), int(dimension.high or 0)
                trial.suggest_int(name, *bounds, step=int(dimension.step or 1), log=dimension.log)
            else:
                trial.suggest_float(
                    name, dimension.low or 0.0, dimension.high or 0.0, step=dimension.step, log=dimension.log
                )
        return self.values(trial.params)

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of training parameters for Optuna's parameters of a trial."""
        values: dict[str, Any] = {}
        for name, dimension in self.dimensions.items():
            if dimension.choices is not None:
                values[name] = next(one for one in dimension.choices if _category(one) == parameters[name])
            elif dimension.layers is not None:
                values[name] = [int(parameters[f"{name}.{UNITS}"])] * int(parameters[f"{name}.{LAYERS}"])
            else:
                values[name] = parameters[name]
        return values

    def chosen(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a trial; of one that was cut off while it chose, what Optuna has of it."""
        try:
            return self.values(parameters)
        except KeyError:
            return dict(parameters)

    def settings(self, values: Mapping[str, Any]) -> TrainSettings:
        """Return the training settings with values in place.

        Raises
        ------
        UserError
            The values do not go together.
        """
        return parse_section("train", TrainSettings, nested({**self._present, **values})["train"])

    def current(self) -> dict[str, Any]:
        """Return the present settings as Optuna's parameters.

        Raises
        ------
        UserError
            One of them is outside the space, so that a search could end below what there is.
        """
        parameters: dict[str, Any] = {}
        for name, dimension in self.dimensions.items():
            value = self._present[name]
            if dimension.choices is not None:
                inside = any(_category(one) == _category(value) for one in dimension.choices)
                parameters[name] = _category(value)
            elif dimension.layers is not None and dimension.units is not None:
                inside = len(value) in dimension.layers and len({*value}) <= 1 and {*value} <= {*dimension.units}
                parameters[f"{name}.{LAYERS}"] = len(value)
                parameters[f"{name}.{UNITS}"] = value[0] if value else dimension.units[0]
            else:
                inside = value is not None and (dimension.low or 0) <= value <= (dimension.high or 0)
                if inside and dimension.step is not None:
                    steps = (value - (dimension.low or 0)) / dimension.step
                    inside = abs(steps - round(steps)) < 1e-8
                parameters[name] = value
            if not inside:
                raise UserError(
                    f"{PARAMS}: tune.space.{name}: does not hold the present value {json.dumps(value)}. Put it in: the "
                    "search starts from the present settings, so that it can only improve on them."
                )
        return parameters


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with dotted names as mappings in mappings."""
    whole: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        here = whole
        for part in path:
            here = here.setdefault(part, {})
        here[last] = value
    return whole


def _category(choice: Any) -> Any:
    """Return a choice as Optuna and its pages can hold it: lists as text."""
    return json.dumps(choice) if isinstance(choice, list | tuple | dict) else choice


def _ends(name: str, dimension: Dimension) -> list[Any]:
    """Return the values at which a mistake in a dimension shows."""
    if dimension.choices is not None:
        return list(dimension.choices)
    if dimension.layers is not None and dimension.units is not None:
        return [[units] * layers for units in dimension.units for layers in dimension.layers]
    whole = parameter_type(name) == "integer"
    return [int(value) if whole else value for value in (dimension.low, dimension.high) if value is not None]
