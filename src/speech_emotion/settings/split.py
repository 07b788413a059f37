"""The section `split`: how utterances are divided into train, validation and test."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from speech_emotion.settings.base import Section

Protocol = Literal["random", "word", "speaker", "full"]

PROTOCOLS = get_args(Protocol)
"""In the order in which they are told: from the flattering to the honest."""


class SplitSettings(Section):
    """Shares are of utterances (`random`, `full`) or of words (`word`, validation of `speaker`)."""

    protocols: Annotated[tuple[Protocol, ...], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    test_share: Annotated[float, Field(gt=0, lt=1)]
    validation_share: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.test_share + self.validation_share >= 1:
            raise ValueError("a test_share and a validation_share that together leave something to train on (below 1)")
        if len(set(self.protocols)) != len(self.protocols):
            raise ValueError("each protocol once")
        if "full" not in self.protocols:
            raise ValueError("a list with 'full' in it: it is the model that is packaged")
        return self
