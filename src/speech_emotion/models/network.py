"""Build the Keras network: LSTM layers over frames, pooling over time, dense layers, logits."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from speech_emotion.config.training import NetworkSettings
from speech_emotion.core.io import write_text
from speech_emotion.models.backend import keras

ops = keras.ops

VARIANCE_FLOOR = 1e-5
"""Added to the variance over time before its root is taken, so that a constant sequence has a gradient."""


HEADS = 4
"""Weighted means of `PoolByAttention`."""


@keras.saving.register_keras_serializable(package="speech_emotion")
class Standardize(keras.layers.Layer):
    """Standardize each coefficient by its mean and standard deviation over the training part."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights; `set_weights` fills them."""
        size = (input_shape[-1],)
        self.mean = self.add_weight(name="mean", shape=size, initializer="zeros", trainable=False)
        self.deviation = self.add_weight(name="deviation", shape=size, initializer="ones", trainable=False)

    def call(self, frames: Any) -> Any:
        """Return standardised frames."""
        return (frames - self.mean) / self.deviation


@keras.saving.register_keras_serializable(package="speech_emotion")
class FrameMask(keras.layers.Layer):
    """Return the mask of frames that are not padding (batch, time)."""

    def call(self, frames: Any, lengths: Any) -> Any:
        """Return True where a frame is not padding."""
        return ops.arange(ops.shape(frames)[1], dtype="int32")[None, :] < lengths[:, None]


@keras.saving.register_keras_serializable(package="speech_emotion")
class StackFrames(keras.layers.Layer):
    """Join groups of `count` consecutive frames to one step, the last one filled with zeros."""

    def __init__(self, count: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = count

    def call(self, frames: Any, real: Any) -> Any:
        """Return (batch, ceil(time / count), count * coefficients); `real` is the mask of frames."""
        frames = ops.where(real[:, :, None], frames, 0.0)
        steps = (ops.shape(frames)[1] + self.count - 1) // self.count
        padded = ops.pad(frames, [[0, 0], [0, self.count - 1], [0, 0]])[:, : steps * self.count]
        return ops.reshape(padded, (-1, steps, self.count * frames.shape[-1]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...], *_: Any) -> tuple[int | None, ...]:
        """Return (batch, time, count * coefficients)."""
        batch, _time, coefficients = input_shape
        return batch, None, self.count * (coefficients or 0)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `__init__`."""
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable(package="speech_emotion")
class PoolOverTime(keras.layers.Layer):
    """Pool a sequence over time, ignoring padding.

    Parameters
    ----------
    how : {"mean", "mean_and_std", "max"}
    """

    def __init__(self, how: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.how = how
        self.supports_masking = True

    def compute_mask(self, *_: Any) -> None:
        """Return no mask: the output has no time axis."""

    def call(self, sequence: Any, real: Any = None) -> Any:
        """Return (batch, units), or (batch, 2 * units) for `mean_and_std`; `real` is the mask of frames."""
        weights = ops.ones_like(sequence[:, :, :1]) if real is None else ops.cast(real, sequence.dtype)[:, :, None]
        if self.how == "max":
            return ops.max(ops.where(weights > 0, sequence, -1e9), axis=1)
        count = ops.sum(weights, axis=1)
        mean = ops.sum(sequence * weights, axis=1) / count
        if self.how == "mean":
            return mean
        variance = ops.sum(weights * (sequence - mean[:, None, :]) ** 2, axis=1) / count
        return ops.concatenate([mean, ops.sqrt(variance + VARIANCE_FLOOR)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `__init__`."""
        return {**super().get_config(), "how": self.how}


@keras.saving.register_keras_serializable(package="speech_emotion")
class PoolByAttention(keras.layers.Layer):
    """Average a sequence over time with learned weights, once for each head (Lin et al., 2017, arXiv:1703.03130)."""

    def __init__(self, units: int = 64, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.seed = units, seed
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        kernel, query = (keras.initializers.GlorotUniform(seed=self.seed + number) for number in range(2))
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units), initializer=kernel)
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.query = self.add_weight(name="query", shape=(self.units, HEADS), initializer=query)

    def compute_mask(self, *_: Any) -> None:
        """Return no mask: the output has no time axis."""

    def call(self, sequence: Any, real: Any = None) -> Any:
        """Return (batch, heads * units); `real` is the mask of steps."""
        scores = ops.matmul(ops.tanh(ops.matmul(sequence, self.kernel) + self.bias), self.query)
        if real is not None:
            scores = ops.where(real[:, :, None], scores, -1e9)
        weights = ops.softmax(scores, axis=1)
        means = ops.matmul(ops.transpose(weights, (0, 2, 1)), sequence)
        return ops.reshape(means, (-1, HEADS * sequence.shape[-1]))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `__init__`."""
        return {**super().get_config(), "units": self.units, "seed": self.seed}


def build(
    settings: NetworkSettings,
    *,
    coefficients: int,
    labels: int,
    statistics: tuple[np.ndarray, np.ndarray] | None,
    seed: int = 0,
) -> keras.Model:
    """Build the network: LSTM layers over the frames, pooling over time, dense layers, logits.

    Parameters
    ----------
    settings : NetworkSettings
    coefficients : int
        Features per frame.
    labels : int
        Number of outputs.
    statistics : tuple of np.ndarray [shape=(coefficients,)] or None
        Mean and standard deviation over the training part; None: no normalization.
    seed : int
        Seed of the initial weights and of every dropout mask.

    Returns
    -------
    keras.Model
        Inputs `frames` (batch, time, coefficients) float32, zero padded, and `lengths` (batch,) int32; output logits
        (batch, labels), or those of each member (batch, members, labels). Layer names are fixed, so that equal settings
        give an equal architecture.json.
    """
    seeds = iter(range(seed, seed + 1000))
    frames = keras.Input((None, coefficients), name="frames")
    lengths = keras.Input((), dtype="int32", name="lengths")
    mask = FrameMask(name="mask")(frames, lengths)
    sequence = frames
    if statistics is not None:
        standardize = Standardize(name="standardize")
        sequence = standardize(sequence)
        standardize.set_weights(list(statistics))
    if settings.stack > 1:
        sequence = StackFrames(settings.stack, name="stack")(sequence, mask)
        steps = (lengths + settings.stack - 1) // settings.stack
        mask = FrameMask(name="step_mask")(sequence, steps)
    if settings.input == "time_mean":
        sequence = PoolOverTime("mean", name="time_mean")(sequence, mask)
        sequence = keras.layers.Reshape((coefficients, 1), name="coefficients_as_steps")(sequence)
        mask = None
    members = [
        _member(settings, sequence, mask, labels=labels, seeds=seeds, prefix=prefix) for prefix in prefixes(settings)
    ]
    logits = members[0]
    if len(members) > 1:
        logits = keras.layers.Concatenate(axis=1, name="logits_of_members")(
            [
                keras.layers.Reshape((1, labels), name=f"{prefix}logits_row")(one)
                for prefix, one in zip(prefixes(settings), members, strict=True)
            ]
        )
    return keras.Model([frames, lengths], logits, name="speech_emotion")


def prefixes(settings: NetworkSettings) -> list[str]:
    """Return what the layer names of each member begin with."""
    return ["", *(f"member_{number}_" for number in range(2, settings.members + 1))]


def _member(
    settings: NetworkSettings,
    sequence: Any,
    mask: Any,
    *,
    labels: int,
    seeds: Iterator[int],
    prefix: str,
) -> Any:
    """Add the layers of one member; return its logits."""
    for number, units in enumerate(settings.lstm, start=1):
        keep_sequence = number < len(settings.lstm) or settings.pooling != "last"
        name = f"{prefix}lstm_{number}"
        sequence = _lstm(settings, units, name, keep_sequence=keep_sequence, seeds=seeds)(sequence, mask=mask)
        if settings.lstm_relu:
            sequence = keras.layers.ReLU(name=f"{name}_relu")(sequence)
        sequence = keras.layers.Dropout(settings.dropout.lstm, seed=next(seeds), name=f"{name}_dropout")(sequence)
    hidden = sequence
    if settings.pooling == "attention":
        pooled = PoolOverTime("mean_and_std", name=f"{prefix}pool")(sequence, mask)
        attended = PoolByAttention(seed=next(seeds), name=f"{prefix}attention")(sequence, mask)
        hidden = keras.layers.Concatenate(name=f"{prefix}pool_and_attention")([pooled, attended])
    elif settings.pooling != "last":
        hidden = PoolOverTime(settings.pooling, name=f"{prefix}pool")(sequence, mask)
    for number, units in enumerate(settings.dense, start=1):
        glorot, name = keras.initializers.GlorotUniform(seed=next(seeds)), f"{prefix}dense_{number}"
        hidden = keras.layers.Dense(units, "relu", kernel_initializer=glorot, name=name)(hidden)
        hidden = keras.layers.Dropout(settings.dropout.dense, seed=next(seeds), name=f"{name}_dropout")(hidden)
        if settings.batch_norm:
            hidden = keras.layers.BatchNormalization(name=f"{name}_norm")(hidden)
    glorot = keras.initializers.GlorotUniform(seed=next(seeds))
    return keras.layers.Dense(labels, kernel_initializer=glorot, name=f"{prefix}logits")(hidden)


def save(model: keras.Model, folder: Path) -> None:
    """Write architecture.json and model.weights.h5. Equal weights give equal bytes.

    The `.keras` format contains dates and memory addresses, so its bytes differ at every save.
    """
    # saving a compiled model would write its optimizer too
    bare = type(model).from_config(model.get_config())
    bare.set_weights(model.get_weights())
    write_text(folder / "architecture.json", json.dumps(json.loads(bare.to_json()), sort_keys=True, indent=1) + "\n")
    bare.save_weights(folder / "model.weights.h5")


def load(folder: Path) -> keras.Model:
    """Load a network that `save` wrote."""
    model = keras.models.model_from_json((folder / "architecture.json").read_text(encoding="utf-8"))
    model.load_weights(folder / "model.weights.h5")
    return model


def _lstm(
    settings: NetworkSettings, units: int, name: str, *, keep_sequence: bool, seeds: Iterator[int]
) -> keras.layers.Layer:
    # tanh and sigmoid inside: cuDNN's kernel needs them, and the reference model has them
    layer = keras.layers.LSTM(
        units,
        return_sequences=keep_sequence,
        kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
        recurrent_initializer=keras.initializers.Orthogonal(seed=next(seeds)),
        name=name,
    )
    if not settings.bidirectional:
        return layer
    return keras.layers.Bidirectional(layer, name=name)
