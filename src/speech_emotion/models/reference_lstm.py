"""Rebuild the reference model: an LSTM over the mean of 40 MFCCs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from speech_emotion.config.base import parse_section, read_params
from speech_emotion.config.training import TrainSettings
from speech_emotion.core.io import digest_json
from speech_emotion.core.process import alone
from speech_emotion.data.splits import Fold
from speech_emotion.models.training import Part, predict_logits, train, training_digest


def read_reference(preset: Path, *, seed: int, epochs: int | None) -> TrainSettings:
    """Read the preset of the reference model, with another seed and, if given, another number of epochs."""
    changed = {"seed": seed} if epochs is None else {"seed": seed, "epochs": epochs}
    return parse_section("train", TrainSettings, {**read_params(preset)["train"], **changed}, preset)


def predict_reference(fold: Fold, means: pd.DataFrame, emotions: pd.Series, settings: TrainSettings) -> pd.DataFrame:
    """Train the reference network on a fold and predict its test part.

    Returns
    -------
    pd.DataFrame
        Probabilities: a row per test utterance, a column per label in alphabetical order.
    """
    labels = sorted(set(emotions))
    index = {label: number for number, label in enumerate(labels)}

    def part(ids: Sequence[str]) -> Part:
        # one frame, the mean itself: the mean over time that the network takes is then that frame
        frames = [row[None, :] for row in means.loc[list(ids)].to_numpy(dtype=np.float32)]
        return Part(frames, np.array([index[emotions[name]] for name in ids], dtype=np.int64))

    digest = training_digest(
        settings,
        features=digest_json(means.to_numpy().tolist()),
        train=[(name, str(emotions[name])) for name in fold.train],
        validation=[(name, str(emotions[name])) for name in fold.validation],
    )
    with alone(f"train/{digest}") as scratch:
        trained = train(
            settings,
            training=part(fold.train),
            validation=part(fold.validation),
            labels=len(labels),
            scratch=scratch,
            on_epoch=lambda row: None,
        )
    logits = predict_logits(trained.network, part(fold.test).frames).astype(np.float64)
    return pd.DataFrame(softmax(logits, axis=1), list(fold.test), labels)
