"""The section `explain`: how it is found out what the model listens to."""

from typing import Annotated

from pydantic import Field

from speech_emotion.settings.base import Section


class ExplainSettings(Section):
    """What the explanation depends on beside models and recordings."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Of the choice of utterances, the untrained network and the map."""
    utterances: Annotated[int, Field(ge=2, le=1000)]
    """Of each emotion and speaker, at most: what occlusion and the map of embeddings look at."""
    folds: Annotated[int, Field(ge=2, le=20)]
    """Of the cross-validation within each speaker that the check of labels rests on."""
