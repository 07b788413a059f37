"""The section `featurize`: the feature specification, every value of which changes what the network sees."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from speech_emotion.config.base import Section


class FeaturizeSettings(Section):
    """MFCCs by librosa's definitions; lengths in samples at `sample_rate`."""

    sample_rate: Annotated[int, Field(ge=4000, le=96000)]
    """Hz."""
    n_fft: Annotated[int, Field(ge=64, le=16384)]
    win_length: Annotated[int, Field(ge=32)]
    hop_length: Annotated[int, Field(ge=16)]
    n_mels: Annotated[int, Field(ge=8, le=256)]
    f_min: Annotated[float, Field(ge=0)]
    """Hz."""
    f_max: Annotated[float, Field(gt=0)] | None
    """Hz; null: half the sample rate."""
    n_mfcc: Annotated[int, Field(ge=2, le=256)]
    c0: bool
    """Whether the first coefficient, the log energy, is kept."""
    deltas: Literal[0, 1, 2]
    """0: none; 1: velocity; 2: velocity and acceleration."""
    utterance_normalization: Literal["none", "cmn", "cmvn"]
    """Of the cepstra, per utterance: nothing, minus the mean (CMN), and divided by the deviation too (CMVN)."""
    prosody: bool
    """Whether six prosodic tracks follow the cepstra; see `prosody`."""
    trim_db: Annotated[float, Field(gt=0, le=60)] | None
    """Frames at both ends that are this far below the loudest are left out; null: none."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.win_length > self.n_fft:
            raise ValueError(f"a win_length ({self.win_length}) of at most n_fft ({self.n_fft})")
        if self.hop_length > self.win_length:
            raise ValueError(f"a hop_length ({self.hop_length}) of at most win_length ({self.win_length})")
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"an n_mfcc ({self.n_mfcc}) of at most n_mels ({self.n_mels})")
        half = self.sample_rate / 2
        if (self.f_max or half) > half:
            raise ValueError(f"an f_max ({self.f_max}) of at most half the sample_rate ({half:g})")
        if self.f_min >= (self.f_max or half):
            raise ValueError(f"an f_min ({self.f_min}) below f_max ({self.f_max or half:g})")
        return self


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
