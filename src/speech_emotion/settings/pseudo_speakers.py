"""The section `pseudo_speakers`: the voices in which validation utterances are said again, and training never hears."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from speech_emotion.settings.base import Section


class VoiceSettings(Section):
    """A voice made of another one: every factor is of the recording's own value, 1 changes nothing."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*( [a-z0-9]+)*$")]
    formants: Annotated[float, Field(ge=0.6, le=1.6)]
    """Factor of all resonances of the vocal tract: below 1 a longer one, above 1 a shorter one."""
    pitch: Annotated[float, Field(ge=0.4, le=2.5)]
    """Factor of the median of the fundamental frequency."""
    pitch_range: Annotated[float, Field(ge=0, le=3)]
    """Factor of how far the fundamental frequency goes from its median, in shares of the median: 0 is monotone."""
    tempo: Annotated[float, Field(ge=0.5, le=2)]
    """Factor of the speed of speaking; it moves neither pitch nor formants."""
    level_db: Annotated[float, Field(ge=-40, le=20)]
    """Gain; one that would go beyond full scale stops there."""
    tilt_db: Annotated[float, Field(ge=-12, le=12)]
    """Slope added to the spectrum, in dB an octave: another microphone, a darker or a brighter voice."""
    rt60: Annotated[float, Field(ge=0.05, le=3)] | None
    """Seconds in which the room's echo falls by 60 dB; null: no room."""
    snr_db: Annotated[float, Field(ge=-5, le=80)] | None
    """Pink noise, in dB below the voice; null: none."""


class ActingSettings(Section):
    """How far a pseudo-speaker's way to show one emotion lies from the recorded speaker's.

    Standard deviations of what is drawn once for each voice and emotion. Without them a changed voice acts just like
    the one that it was made from, which no other person does.
    """

    pitch: Annotated[float, Field(ge=0, le=1)]
    """Of the factor of the median pitch, as a natural logarithm."""
    pitch_range: Annotated[float, Field(ge=0, le=1)]
    """Of the factor of the pitch range, as a natural logarithm."""
    tempo: Annotated[float, Field(ge=0, le=1)]
    """Of the factor of the tempo, as a natural logarithm."""
    tilt_db: Annotated[float, Field(ge=0, le=12)]
    """Of the slope added to the spectrum, in dB an octave: a pressed voice's is less steep, a breathy one's more."""


class PseudoSpeakersSettings(Section):
    """Who says the validation utterances again."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Of rooms, noise and acting."""
    acting: ActingSettings
    voices: Annotated[tuple[VoiceSettings, ...], Field(min_length=1, max_length=50)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        names = [voice.name for voice in self.voices]
        if len(set(names)) != len(names):
            raise ValueError("voices with different names")
        if "recorded" in names:
            raise ValueError("a voice of another name than 'recorded', which is the recording itself")
        return self
