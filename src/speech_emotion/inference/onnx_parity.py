"""Takes a package and frames; gives how far its ONNX graph and its Keras network lie apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from speech_emotion.core.errors import UserError
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.models.network import load
from speech_emotion.models.package import GRAPH
from speech_emotion.models.training import predict_logits

AGREEMENT: Final = 1e-5
"""How far the probabilities of the ONNX graph and of the Keras network may lie apart."""


def check_agreement(package: Path, frames: Sequence[np.ndarray]) -> float:
    """Hold a package's ONNX graph against its Keras network; return the largest difference of a probability.

    Raises
    ------
    UserError
        It is more than 1e-5.
    """
    recognizer = Recognizer.load(package)
    logits = predict_logits(load(package), frames).astype(np.float64) / recognizer.package.description.temperature
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    difference = float(np.abs(recognizer.predict_frames(frames) - expected).max())
    if difference > AGREEMENT:
        raise UserError(
            f"{package / GRAPH}: its probabilities differ from the Keras network's by up to {difference:.1e}, more "
            f"than {AGREEMENT:.0e}. This is a fault of the export, not of the data: please report it with params.yaml."
        )
    return difference
