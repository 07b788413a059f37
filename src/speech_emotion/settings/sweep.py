"""A section of studies/sweeps/params.yaml: which training parameters take which values."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from speech_emotion.settings.base import Section


class SweepSettings(Section):
    """Parameters of `train`, one at a time at other values, while all others stay as they are."""

    values: dict[str, tuple[Any, ...]]
    """By the name of a parameter in params.yaml, such as ``train.inputs.n_mfcc``, what is tried in its place."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)]
    """Each value is trained from each: what differs between seeds is chance."""
    leave_behind: bool = False
    """Whether what is behind the present settings from one seed, and cannot be chosen, is not trained from the next."""

    @model_validator(mode="after")
    def _something_to_try(self) -> Self:
        if not self.values or not all(self.values.values()):
            raise ValueError("one parameter at least with one value at least, such as `train.epochs: [25, 40]`")
        for name in self.values:
            if not name.startswith("train."):
                raise ValueError(f"parameters of the training, such as `train.epochs`. '{name}' is none")
        for kind, given in (*self.values.items(), ("seeds", self.seeds)):
            if len({repr(one) for one in given}) != len(given):
                raise ValueError(f"{kind} that differ")
        return self
