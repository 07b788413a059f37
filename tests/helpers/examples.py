"""Small values that several tests start from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from speech_emotion.config.features import AugmentSettings, FeaturizeSettings
from speech_emotion.config.training import (
    DropoutSettings,
    InputSettings,
    NetworkSettings,
    OptimizerSettings,
    TrainSettings,
)

EMOTIONS = ("angry", "happy", "sad")


def featurize_settings(**changes: Any) -> FeaturizeSettings:
    values = {
        **{"sample_rate": 16000, "n_fft": 512, "win_length": 400, "hop_length": 320, "n_mels": 64, "f_min": 0.0},
        **{"f_max": None, "n_mfcc": 13, "c0": True, "deltas": 0, "utterance_normalization": "none"},
        **{"prosody": False, "trim_db": None},
    }
    return FeaturizeSettings(**(values | changes))


def augment_settings(**changes: Any) -> AugmentSettings:
    values = {
        "copies": 1,
        "seed": 1,
        "speed": (0.8, 1.25),
        "warp": (0.85, 1.16),
        "tilt_db": (0.0, 0.0),
        "noisy": 0.0,
        "snr_db": (15.0, 40.0),
        "narrow": 0.0,
    }
    return AugmentSettings(**(values | changes))


def network_settings(**changes: Any) -> NetworkSettings:
    values: dict[str, Any] = {
        "input": "frames",
        "lstm": (8,),
        "bidirectional": True,
        "lstm_relu": False,
        "pooling": "mean_and_std",
        "dense": (8,),
        "batch_norm": False,
        "dropout": DropoutSettings(lstm=0.2, dense=0.2),
    }
    return NetworkSettings(**(values | changes))


def train_settings(*, network: NetworkSettings | None = None, **changes: Any) -> TrainSettings:
    optimizer = OptimizerSettings(
        learning_rate=0.1, momentum=0.9, nesterov=True, schedule="one_cycle", clip_norm=1.0, weight_decay=0.0
    )
    values: dict[str, Any] = {
        "seed": 1,
        "epochs": 3,
        "batch_size": 16,
        "normalization": "corpus",
        "label_smoothing": 0.1,
        "inputs": InputSettings(n_mfcc=None, prosody=True),
        "network": network or network_settings(),
        "optimizer": optimizer,
        "early_stopping": None,
    }
    return TrainSettings(**(values | changes))


def manifest(*, speakers: Sequence[str] = ("A", "B"), words: int = 10) -> pd.DataFrame:
    """Return a manifest of every speaker, such as `A` or `corpus/A`, saying every word with every emotion."""
    rows = [
        {
            "id": f"{speaker}_{word}_{emotion}",
            "path": f"{speaker}_{word}_{emotion}.wav",
            "corpus": speaker.rpartition("/")[0],
            "speaker": speaker,
            "sex": "",
            "emotion": emotion,
            "text": f"word{word}",
            "sample_rate": 16000,
            "channels": 1,
            "seconds": 1.0,
            "rms_dbfs": -20.0,
            "peak_dbfs": -3.0,
            "sha256": f"{abs(hash((speaker, word, emotion))):064x}"[-64:],
            "part": "",
        }
        for speaker in speakers
        for emotion in EMOTIONS
        for word in range(words)
    ]
    return pd.DataFrame(rows)


def clusters(count: int, *, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Return sequences of unequal length whose level says their label."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 3
    frames = [(rng.standard_normal((rng.integers(8, 30), 5)) * 0.5 + label).astype(np.float32) for label in truth]
    return frames, truth
