"""The section `robustness`: how much is asked when recordings are changed as microphones, phones and files do."""

from typing import Annotated

from pydantic import Field

from speech_emotion.settings.base import Section


class RobustnessSettings(Section):
    """A fixed part of each protocol's judged utterances, for every change of each is decoded and heard anew."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Of the noise."""
    utterances: Annotated[int, Field(ge=10)]
    """At most, of each protocol; spread evenly over speakers and emotions."""
