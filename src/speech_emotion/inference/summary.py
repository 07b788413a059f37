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
    """One layer of a network, such as a "bidirectional LSTM" with the detail "64 units per direction".

    `width` is the number of outputs, per time step if the output is a sequence (`steps`).
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
    """Return the layers from frames to logits; raise a UserError if architecture.json is missing or damaged."""
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
    inputs, steps = before.width, before.steps
    if name == "Bidirectional":
        inner = config["layer"]["config"]
        units, parameters = inner["units"], 2 * _lstm(inner["units"], inputs)
        detail = f"{units} units per direction"
        return Layer("bidirectional LSTM", detail, 2 * units, inner["return_sequences"], parameters)
    if name == "LSTM":
        units = config["units"]
        return Layer("LSTM", f"{units} units", units, config["return_sequences"], _lstm(units, inputs))
    if name == "Dense":
        units, activation = config["units"], config["activation"]
        if activation == "linear":
            return Layer("output", "softmax gives the probabilities", units, steps, (inputs + 1) * units)
        detail = f"{units} units, {_ACTIVATIONS.get(activation, activation)}"
        return Layer("dense", detail, units, steps, (inputs + 1) * units)
    if name == "PoolOverTime":
        width = inputs * (2 if config["how"] == "mean_and_std" else 1)
        return Layer("pooling over time", config["how"], width, False, 0)
    if name == "Reshape":
        width = math.prod(config["target_shape"][1:])
        return Layer("reshape", "the mean frame as a sequence, one value per step", width, True, 0)
    if name == "BatchNormalization":
        return Layer("batch normalisation", "", inputs, steps, 2 * inputs)
    if name == "Dropout":
        return Layer("dropout", f"{config['rate']:.0%} in training", inputs, steps, 0)
    if name == "Standardize":
        return Layer("standardise", "by mean and standard deviation of the training part", inputs, steps, 0)
    return Layer(_ACTIVATIONS.get(name, name), "", inputs, steps, 0)


_ACTIVATIONS: Mapping[str, str] = {"relu": "ReLU", "ReLU": "ReLU"}


def _lstm(units: int, inputs: int) -> int:
    """Return the number of weights: input, state and bias of four gates."""
    return 4 * units * (inputs + units + 1)
