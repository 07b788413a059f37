"""The reference notebook's way to compute features, predict and train: what the benchmarks compare with.

python benchmarks/peers.py MODEL CLIP     # the notebook's prediction of one clip, in a process of its own
"""

import io
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

EMOTIONS: Final = 7
COEFFICIENTS: Final = 40
"""Otherwise librosa's defaults: 22,050 Hz, windows of 2,048 samples every 512."""


def librosa_mfcc(recording: Path | bytes) -> np.ndarray:
    """Return the notebook's MFCCs of a file or its bytes [shape=(40, t)]."""
    import librosa

    samples, rate = librosa.load(io.BytesIO(recording) if isinstance(recording, bytes) else recording)
    return librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=COEFFICIENTS)


def predict(network: Any, recording: Path | bytes) -> np.ndarray:
    """Return the notebook's prediction [shape=(1, labels)]."""
    return network.predict(librosa_mfcc(recording).mean(axis=1)[None, :, None], verbose=0)


def reference_network() -> Any:
    """Return the network of the reference notebook, untrained."""
    from speech_emotion.models.backend import keras

    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((COEFFICIENTS, 1)),
            layers.LSTM(128, return_sequences=True),
            layers.ReLU(),
            layers.Dropout(0.2),
            layers.LSTM(128),
            layers.ReLU(),
            layers.Dropout(0.2),
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.2),
            layers.BatchNormalization(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.2),
            layers.BatchNormalization(),
            layers.Dense(EMOTIONS, activation="softmax"),
        ]
    )
    network.compile(keras.optimizers.SGD(0.001, momentum=0.9), "categorical_crossentropy")
    return network


def frames_network(coefficients: int, *, learning_rate: float) -> Any:
    """Return two LSTM layers over zero-padded, masked frames, compiled."""
    from speech_emotion.models.backend import keras

    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((None, coefficients)),
            layers.Masking(),
            layers.LSTM(128, return_sequences=True),
            layers.LSTM(128),
            layers.Dense(EMOTIONS, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9, global_clipnorm=1.0)
    network.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return network


if __name__ == "__main__":
    from speech_emotion.models.backend import keras

    predict(keras.models.load_model(sys.argv[1]), Path(sys.argv[2]))
