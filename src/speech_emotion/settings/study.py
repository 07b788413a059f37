"""The section `study` of studies/pseudo-speakers/params.yaml: which models are held against each other."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from speech_emotion.settings.base import Section

INPUTS = {
    "logistic": ("means", "deviations", "means and deviations", "level and duration"),
    "svm": ("means", "deviations", "means and deviations", "level and duration"),
    "forest": ("means", "deviations", "means and deviations", "level and duration"),
    "reference": ("means",),
    "network": ("frames", "cepstra", "prosody"),
}
"""What a kind of model can be given."""


def _mapping(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("a mapping with keys of the section `train` of params.yaml")
    return value


class StudyModel(Section):
    """One point of the plot."""

    name: Annotated[str, Field(min_length=1)]
    kind: Literal["logistic", "svm", "forest", "reference", "network"]
    """`network` is that of params.yaml, with the changes of `train`."""
    inputs: Literal["means", "deviations", "means and deviations", "level and duration", "frames", "cepstra", "prosody"]
    """Of MFCCs over time, of the recording, or of the features of params.yaml: all tracks, or some of them."""
    copies: Annotated[int, Field(ge=0)] | None = None
    """Of a network: how many copies of each training utterance it hears; null: all that there are."""
    train: Annotated[dict[str, Any], BeforeValidator(_mapping)] = Field(default_factory=dict)
    """Of a network: what differs from the section `train` of params.yaml."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.inputs not in INPUTS[self.kind]:
            raise ValueError(f"for kind '{self.kind}' inputs of {', '.join(INPUTS[self.kind])}")
        if self.kind != "network" and (self.copies is not None or self.train):
            raise ValueError("copies and train for kind 'network' alone")
        return self


class StudySettings(Section):
    """The study of how well pseudo-speakers predict a left-out speaker."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    resamples: Annotated[int, Field(ge=100, le=100_000)]
    """Of the interval of a rank correlation: models are drawn anew."""
    models: Annotated[tuple[StudyModel, ...], Field(min_length=4)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError("models with different names")
        return self
