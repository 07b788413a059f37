"""The sections `featurize` and `augment`, and of `train`: `references` and `perturb`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from speech_emotion.config.base import Section


class FeaturizeSettings(Section):
    """MFCCs with librosa's definitions; lengths in samples at `sample_rate`."""

    sample_rate: Annotated[int, Field(ge=4000, le=96000)]
    n_fft: Annotated[int, Field(ge=64, le=16384)]
    win_length: Annotated[int, Field(ge=32)]
    hop_length: Annotated[int, Field(ge=16)]
    n_mels: Annotated[int, Field(ge=8, le=256)]
    f_min: Annotated[float, Field(ge=0)]
    f_max: Annotated[float, Field(gt=0)] | None
    n_mfcc: Annotated[int, Field(ge=2, le=256)]
    c0: bool
    deltas: Literal[0, 1, 2]
    utterance_normalization: Literal["none", "cmn", "cmvn"]
    prosody: bool
    trim_db: Annotated[float, Field(gt=0, le=60)] | None

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
    """Modified copies of each training utterance.

    Speed and warp are log-uniform, drawn from `seed`, the utterance and the number of the copy.
    """

    copies: Annotated[int, Field(ge=0, le=64)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    speed: Range
    """Factor for pitch, formants and tempo together (Ko, 2015)."""
    warp: Range
    """Factor for the formants, applied to the mel axis: vocal tract length (Jaitly and Hinton, 2013)."""
    tilt_db: Annotated[tuple[Tilt, Tilt], AfterValidator(_upward)]
    noisy: Annotated[float, Field(ge=0, le=1)]
    snr_db: Range
    narrow: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in ("speed", "warp"):
            low, high = getattr(self, name)
            if low < 0.25 or high > 4:
                raise ValueError(f"a {name} from 0.25 to 4")
        return self


class ReferenceSettings(Section):
    """Train with references of the speaker, so that the model can be used with and without a speaker profile."""

    none: Annotated[float, Field(ge=0, lt=1)]
    """Share of the utterances without a reference."""
    neutral: Annotated[float, Field(ge=0, le=1)]
    """Share of the references that are neutral utterances only."""
    most: Annotated[int, Field(ge=1, le=1000)]
    """Utterances of a reference, at most; their number is log-uniform."""


class PerturbSettings(Section):
    """Change the features of training utterances anew in each epoch, as if another speaker had spoken."""

    share: Annotated[float, Field(gt=0, le=1)]
    """Of the utterances of an epoch."""
    warp: Annotated[float, Field(ge=0, le=0.5)]
    """Formants are scaled by a factor between 1 / (1 + warp) and 1 + warp (vocal tract length)."""
    f0_semitones: Annotated[float, Field(ge=0, le=12)]
    """F0 is moved up or down by at most this much."""
    gain_db: Annotated[float, Field(ge=0, le=40)]
    tilt_db: Annotated[float, Field(ge=0, le=12)]
    """Per octave."""
    tempo: Annotated[float, Field(ge=0, le=1)]
    """The factor of the tempo is between 1 / (1 + tempo) and 1 + tempo."""
