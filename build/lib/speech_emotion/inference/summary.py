"""List the layers of a package's network from architecture.json, without Keras or TensorFlow."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speech_emotion.core.errors import UserError
from speech_emotion.models.package import ARCHITECTURE


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes
    ----------
    kind : str
        Such as "bidirectional LSTM".
    detail : str
        Such as "64 units per direction"; may be empty.
    width : int
        Number of outputs, per time step if `steps` is true.
    steps : bool
        Whether the output is a sequence.
    parameters : int
        Number of trainable weights.
    """

    kind: str
    detail: str
    width: int
    steps: bool
    parameters: int

    @property
    def output(self) -> str:
        """The shape of the output, such as "time × 64"."""
        return f"time × {self.width}" if self.steps else str(self.width)


def read_layers(package: Path) -> list[Layer]:
    """Return the layers from frames to logits.

    Raises
    ------
    UserError
        architecture.json is missing or damaged.
    """
    path = package / ARCHITECTURE
    try:
        described = json.loads(path.read_text(encoding="utf-8"))["config"]["layers"]
        layers: list[Layer] = []
        for one in described:
            config = one["config"]
            if one["class_name"] == "InputLayer":
                if len(config["batch_shape"]) == 3:
                    layers.append(Layer("frames", "MFCCs and prosody", config["batch_shape"][-1], True, 0))
            elif one["class_name"] != "FrameMask":  # the mask of the padding
                layers.append(_layer(one["class_name"], config, layers[-1]))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise UserError(f"{path}: missing or damaged. Run `dvc repro`.") from None
    return layers


def _layer(name: str, config: Mapping[str, Any], before: Layer) -> Layer:
    if name == "Bidirectional":
        units = config["layer"]["config"]["units"]
        steps = config["layer"]["config"]["return_sequences"]
        return Layer(
            "bidirectional LSTM", f"{units} units per direction", 2 * units, steps, 2 * _lstm(units, before.width)
        )
    if name == "LSTM":
        units = config["units"]
        return Layer("LSTM", f"{units} units", units, config["return_sequences"], _lstm(units, before.width))
    if name == "Dense":
        units, activation = config["units"], config["activation"]
        output = activation == "linear"
        detail = (
            "softmax gives the probabilities"
            if output
            else f"{units} units, {_ACTIVATIONS.get(activation, activation)}"
        )
        return Layer("output" if output else "dense", detail, units, before.steps, (before.width + 1) * units)
    if name == "PoolOverTime":
        width = before.width * (2 if config["how"] == "mean_and_std" else 1)
        return Layer("pooling over time", config["how"], width, False, 0)
    if name == "Reshape":
        return Layer(
            "reshape",
            "the mean frame as a sequence, one value per step",
            math.prod(config["target_shape"][1:]),
            True,
            0,
        )
    if name == "BatchNormalization":
        return Layer("batch normalisation", "", before.width, before.steps, 2 * before.width)
    if name == "Dropout":
        return Layer("dropout", f"{config['rate']:.0%} in training", before.width, before.steps, 0)
    if name == "Standardize":
        return Layer(
            "standardise", "by mean and standard deviation of the training part", before.width, before.steps, 0
        )
    return Layer(_ACTIVATIONS.get(name, name), "", before.width, before.steps, 0)


_ACTIVATIONS: Mapping[str, str] = {"relu": "ReLU", "ReLU": "ReLU"}


def _lstm(units: int, inputs: int) -> int:
    """Return the number of weights: input, state and bias of four gates."""
    return 4 * units * (inputs + units + 1)
