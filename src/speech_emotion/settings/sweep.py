"""A section of studies/sweeps/params.yaml: which training parameters take which values."""

from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from speech_emotion.settings.base import Section


class SweepSettings(Section):
    """Parameters of `train`, one at a time at other values, while all others stay as they are."""

    values: dict[str, tuple[Any, ...]]
    """By the name of a parameter in params.yaml, such as ``train.inputs.n_mfcc``, what is tried in its place."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)]
    """Each value is trained from each: what differs between seeds is chance."""
    leave_behind: bool = False
    """Whether what is behind the present settings from one seed, and cannot be chosen, is not trained from the next."""

    @field_validator("values", mode="before")
    @classmethod
    def _lists(cls, values: Any) -> Any:
        such = "such as `train.epochs: [25, 40]`"
        if not isinstance(values, dict) or not values:
            raise ValueError(f"one parameter at least, each with a list of its values, {such}")
        for name, tried in values.items():
            if not str(name).startswith("train."):
                raise ValueError(f"parameters of the training, {such}. '{name}' is none")
            if not isinstance(tried, list | tuple) or not tried:
                raise ValueError(f"a list of values for '{name}', {such}")
        return {str(name): tuple(tried) for name, tried in values.items()}

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        tried = ((f"values of {name}", values) for name, values in self.values.items())
        for kind, given in (*tried, ("seeds", self.seeds)):
            if len({repr(one) for one in given}) != len(given):
                raise ValueError(f"{kind} that differ")
        return self
