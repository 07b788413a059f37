"""Compare the ONNX graph of a package with its Keras network."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from scipy.special import softmax

from speech_emotion.core.errors import UserError
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.models.network import load
from speech_emotion.models.package import GRAPH
from speech_emotion.models.training import predict_logits

AGREEMENT: Final = 1e-5
"""Largest allowed difference of a probability."""


def check_agreement(package: Path, frames: Sequence[np.ndarray]) -> float:
    """Return the largest difference between the probabilities of the ONNX graph and of the Keras network.

    Raise a UserError if it is larger than 1e-5.
    """
    # batches of any shape are predicted once, so TensorFlow would warn about retracing
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    recognizer = Recognizer.load(package)
    logits = predict_logits(load(package), frames).astype(np.float64) / recognizer.package.description.temperature
    expected = softmax(logits, axis=1)
    difference = float(np.abs(recognizer.predict_frames(frames) - expected).max())
    if difference > AGREEMENT:
        raise UserError(
            f"{package / GRAPH}: probabilities differ from the Keras network by up to {difference:.1e}, more than "
            f"{AGREEMENT:.0e}. This is an error of the ONNX export: please report it with your params.yaml."
        )
    return difference
