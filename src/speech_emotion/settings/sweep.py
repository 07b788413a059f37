"""A section of studies/sweeps/params.yaml: which training parameter takes which values."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from speech_emotion.settings.base import Section


class SweepSettings(Section):
    """One parameter of `train`, tried at several values while all others stay as they are."""

    parameter: Annotated[str, Field(pattern=r"^train(\.[a-z_0-9]+)+$")]
    """Its name in params.yaml, such as ``train.inputs.n_mfcc``."""
    values: Annotated[tuple[Any, ...], Field(min_length=2)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)]
    """Each value is trained from each: what differs between seeds is chance."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for kind, given in (("values", self.values), ("seeds", self.seeds)):
            if len({repr(one) for one in given}) != len(given):
                raise ValueError(f"{kind} that differ")
        return self
