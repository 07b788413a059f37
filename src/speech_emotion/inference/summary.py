"""Takes a package's architecture.json; gives its layers in order: what each does, what comes out, what it has learned.

Read as plain JSON: neither Keras nor TensorFlow is needed to draw or to describe a network.
"""

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
        In words: "bidirectional LSTM".
    detail : str
        What else is to be known of it: "64 units each way"; may be empty.
    width : int
        Numbers that come out, of each step where `steps` is true.
    steps : bool
        Whether a sequence comes out.
    parameters : int
        Weights that training moves.
    """

    kind: str
    detail: str
    width: int
    steps: bool
    parameters: int

    @property
    def output(self) -> str:
        """What comes out, as people write it."""
        return f"time × {self.width}" if self.steps else str(self.width)


def read_layers(package: Path) -> list[Layer]:
    """Return the layers of a package's network, from its frames to its logits.

    Raises
    ------
    UserError
        The package has no architecture that can be read.
    """
    path = package / ARCHITECTURE
    try:
        described = json.loads(path.read_text(encoding="utf-8"))["config"]["layers"]
        layers: list[Layer] = []
        for one in described:
            config = one["config"]
            if one["class_name"] == "InputLayer":
                if len(config["batch_shape"]) == 3:
                    layers.append(Layer("frames", "features of the voice", config["batch_shape"][-1], True, 0))
            elif one["class_name"] != "FrameMask":  # which knows the padding, and passes nothing on
                layers.append(_layer(one["class_name"], config, layers[-1]))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise UserError(
            f"{path}: is missing, or not an architecture as Keras writes it. `dvc repro` makes it."
        ) from None
    return layers


def _layer(name: str, config: Mapping[str, Any], before: Layer) -> Layer:
    if name == "Bidirectional":
        units = config["layer"]["config"]["units"]
        steps = config["layer"]["config"]["return_sequences"]
        return Layer("bidirectional LSTM", f"{units} units each way", 2 * units, steps, 2 * _lstm(units, before.width))
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
            "a step a number", "the mean frame read as a sequence", math.prod(config["target_shape"][1:]), True, 0
        )
    if name == "BatchNormalization":
        return Layer("batch normalisation", "", before.width, before.steps, 2 * before.width)
    if name == "Dropout":
        return Layer("dropout", f"{config['rate']:.0%} in training", before.width, before.steps, 0)
    if name == "Standardize":
        return Layer("standardise", "by mean and deviation of the training part", before.width, before.steps, 0)
    return Layer(_ACTIVATIONS.get(name, name), "", before.width, before.steps, 0)


_ACTIVATIONS: Mapping[str, str] = {"relu": "ReLU", "ReLU": "ReLU"}


def _lstm(units: int, inputs: int) -> int:
    """Return the weights of an LSTM's four gates: of the input, of the state, and a bias."""
    return 4 * units * (inputs + units + 1)
