"""Takes a corpus's recordings; gives the reference model rebuilt: mean MFCCs, and its network trained on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from speech_emotion.audio.decode import load
from speech_emotion.config.base import parse_section, read_params
from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.config.training import TrainSettings
from speech_emotion.core.io import digest_json
from speech_emotion.core.parallel import parallel_map
from speech_emotion.core.process import alone
from speech_emotion.core.progress import track
from speech_emotion.data.splits import Fold
from speech_emotion.features.mfcc import Extractor
from speech_emotion.models.baselines import Known, as_table, classical
from speech_emotion.models.training import Epoch, Part, predict_logits, train, training_digest


@dataclass(frozen=True)
class Reference:
    """The settings of the reference model."""

    featurize: FeaturizeSettings
    train: TrainSettings


def read_reference(preset: Path, *, seed: int, epochs: int | None = None) -> Reference:
    """Read the preset that rebuilds the reference model; with `epochs`, one that is trained for so many."""
    values = read_params(preset)
    own = {"seed": seed} if epochs is None else {"seed": seed, "epochs": epochs}
    return Reference(
        parse_section("featurize", FeaturizeSettings, values["featurize"], preset),
        parse_section("train", TrainSettings, {**values["train"], **own}, preset),
    )


def mean_mfcc(manifest: pd.DataFrame, raw: Path, settings: FeaturizeSettings, *, workers: int | None) -> pd.DataFrame:
    """Return the mean of each coefficient over time, a row an utterance, indexed by its id."""
    work = partial(_mean_frame, settings=settings)
    paths = [raw / path for path in manifest["path"]]
    rows = list(track(parallel_map(work, paths, workers=workers), len(paths), "mean MFCCs", "recordings"))
    return pd.DataFrame(np.stack(rows), index=pd.Index(manifest["id"]))


def every_baseline(fold: Fold, *, known: Known, reference: Reference, shuffles: int) -> pd.DataFrame:
    """Return what every baseline, the reference model among them, says of a fold's test part, as `as_table` does.

    Parameters
    ----------
    fold : Fold
    known : Known
        `mean_mfcc` as the reference model hears it.
    reference : Reference
        Its seed is that of all.
    shuffles : int
        Of the labels, for the control.

    Raises
    ------
    UserError
        A label has a single utterance to train on.
    """
    found = classical(fold, known, seed=reference.train.seed, shuffles=shuffles)
    heard = predictions(fold, known.mean_mfcc, known.emotions, reference.train, on_epoch=lambda row: None)
    return as_table({**found, "reference": (heard,)}, fold)


def predictions(
    fold: Fold, means: pd.DataFrame, emotions: pd.Series, settings: TrainSettings, on_epoch: Callable[[Epoch], None]
) -> pd.DataFrame:
    """Train the reference network on a fold and ask it about the test part.

    Returns
    -------
    pd.DataFrame
        Probabilities, a row a test utterance, a column a label in alphabetical order.
    """
    labels = sorted(set(emotions))
    index = {label: number for number, label in enumerate(labels)}

    def part(ids: Sequence[str]) -> Part:
        # one frame, the mean itself: the mean over time that the network takes is then that frame
        frames = [row[None, :] for row in means.loc[list(ids)].to_numpy(dtype=np.float32)]
        return Part(frames, np.array([index[emotions[name]] for name in ids], dtype=np.int64))

    features = digest_json(means.round(6).to_numpy().tolist())
    digest = training_digest(
        settings,
        features=features,
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
            on_epoch=on_epoch,
        )
    logits = predict_logits(trained.network, part(fold.test).frames).astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return pd.DataFrame(exponentials / exponentials.sum(axis=1, keepdims=True), list(fold.test), labels)


def _mean_frame(path: Path, *, settings: FeaturizeSettings) -> np.ndarray:
    return _extractor(settings)(load(path, settings.sample_rate)).mean(axis=0, dtype=np.float64)


@lru_cache(maxsize=1)
def _extractor(settings: FeaturizeSettings) -> Extractor:
    """Return a worker's extractor, made once."""
    return Extractor(settings)
