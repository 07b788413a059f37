"""The section `augment`: copies of each utterance for training, which make it hear more voices than were recorded."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from speech_emotion.settings.base import Section


def _upward(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"the lower end first, found {list(ends)}")
    return ends


Tilt = Annotated[float, Field(ge=-12, le=12)]
Range = Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], AfterValidator(_upward)]


class AugmentSettings(Section):
    """Copies of every utterance in other voices and on other lines, for training alone.

    Speed and warp are drawn evenly by their logarithms, from `seed`, the utterance and the number of the copy.
    """

    copies: Annotated[int, Field(ge=0, le=64)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    speed: Range
    """Played faster by this factor: pitch, formants and tempo rise together (Ko, 2015)."""
    warp: Range
    """Formants moved by this factor on the mel axis: a shorter vocal tract (Jaitly and Hinton, 2013)."""
    tilt_db: Annotated[tuple[Tilt, Tilt], AfterValidator(_upward)]
    """Slope added to the spectrum, in dB an octave, drawn evenly: another microphone, a darker or a brighter voice."""
    noisy: Annotated[float, Field(ge=0, le=1)]
    """Share of copies with white or pink noise."""
    snr_db: Range
    """Their signal-to-noise ratio, drawn evenly."""
    narrow: Annotated[float, Field(ge=0, le=1)]
    """Share of copies that end at 3.4 kHz, as a telephone's do."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in ("speed", "warp"):
            low, high = getattr(self, name)
            if low < 0.25 or high > 4:
                raise ValueError(f"a {name} from 0.25 to 4")
        return self
