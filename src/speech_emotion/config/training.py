"""The sections `train`, `calibrate` and `baselines`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from speech_emotion.config.base import PARAMS, Section
from speech_emotion.config.features import FeaturizeSettings, PerturbSettings, ReferenceSettings
from speech_emotion.core.errors import UserError

Units = Annotated[int, Field(ge=1, le=2048)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class InputSettings(Section):
    """The part of the features that the network reads."""

    n_mfcc: Annotated[int, Field(ge=2, le=256)] | None
    prosody: bool

    def of(self, made: FeaturizeSettings) -> FeaturizeSettings:
        """Return the feature settings of what the network reads; raise a UserError if `n_mfcc` is too large."""
        if self.n_mfcc is not None and self.n_mfcc > made.n_mfcc:
            raise UserError(
                f"{PARAMS}: train.inputs.n_mfcc: {self.n_mfcc} is more than the {made.n_mfcc} cepstra of "
                "featurize.n_mfcc. Lower the first or raise the second."
            )
        count = made.n_mfcc if self.n_mfcc is None else self.n_mfcc
        return made.model_copy(update={"n_mfcc": count, "prosody": made.prosody and self.prosody})


class DropoutSettings(Section):
    """Share of units dropped after each layer of a kind."""

    lstm: Rate
    dense: Rate


class NetworkSettings(Section):
    """LSTM layers over the frames, pooling over time, dense layers, and one output per label."""

    input: Literal["frames", "time_mean"]
    """`time_mean`: the mean of each coefficient over time, read as a sequence of numbers (the reference model)."""
    stack: Annotated[int, Field(ge=1, le=8)] = 1
    lstm: Annotated[tuple[Units, ...], Field(min_length=1, max_length=4)]
    bidirectional: bool
    lstm_relu: bool
    """Add a ReLU after each LSTM layer, as in the reference model; the gates stay tanh and sigmoid."""
    pooling: Literal["last", "mean", "mean_and_std", "max", "attention"]
    """`attention`: mean, deviation and four means that are weighted by learned scores of the steps."""
    members: Annotated[int, Field(ge=1, le=8)] = 1
    dense: Annotated[tuple[Units, ...], Field(max_length=4)]
    batch_norm: bool
    dropout: DropoutSettings


class OptimizerSettings(Section):
    """SGD with momentum."""

    learning_rate: Annotated[float, Field(gt=0, le=10)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    schedule: Literal["constant", "cosine", "one_cycle"]
    clip_norm: Annotated[float, Field(gt=0)] | None
    weight_decay: Annotated[float, Field(ge=0, lt=1)]


class EarlyStoppingSettings(Section):
    """Stop after `patience` epochs without a lower validation loss, and keep the weights of the best epoch."""

    patience: Annotated[int, Field(ge=1)]


class TrainSettings(Section):
    """The settings that determine the weights, besides the data."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    epochs: Annotated[int, Field(ge=1, le=10000)]
    batch_size: Annotated[int, Field(ge=1, le=8192)]
    normalization: Literal["none", "corpus"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    corpus_weights: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(default_factory=dict)
    references: ReferenceSettings | None = None
    perturb: PerturbSettings | None = None
    """Change the features of training utterances in each epoch; null: never."""
    inputs: InputSettings
    network: NetworkSettings
    optimizer: OptimizerSettings
    early_stopping: EarlyStoppingSettings | None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.references and self.normalization != "corpus":
            raise ValueError("references with normalization 'corpus', whose mean they are compared with")
        return self


class CalibrateSettings(Section):
    """Temperature and threshold are fitted on the validation part."""

    risk: Annotated[float, Field(gt=0, lt=1)]


class BaselinesSettings(Section):
    """The size of the baselines' computations; the models themselves are fixed, so that tables can be compared."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    shuffles: Annotated[int, Field(ge=2, le=1000)]
    """Random permutations of the labels, for the control: one alone may reach .05 or .25 on an unseen speaker."""
    reference_epochs: Annotated[int, Field(ge=0)] | None
