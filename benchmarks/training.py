"""Training time: the committed recipe on one core, and an epoch compared with plain Keras.

    TESS_DIR=/path/to/tess python benchmarks/training.py

* The network of params.yaml on one core, per frame (20 ms) of audio.
* One epoch of two LSTM layers of 128 units over frames: `model.fit` on batches of 32 padded to the longest utterance of
  all, and our batches; both train the same number of epochs and must reach equal accuracy.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

import measuring
import peers
import workspace
from measuring import Figure, Times
from speech_emotion.config.base import parse_section, read_params
from speech_emotion.config.data import SplitSettings
from speech_emotion.config.training import TrainSettings
from speech_emotion.data import manifest as manifests
from speech_emotion.data import splits
from speech_emotion.features.frames import pad
from speech_emotion.features.store import FeatureStore
from speech_emotion.models.backend import keras
from speech_emotion.models.training import Epoch, Part, Trained, predict_logits, train

UNITS: Final = 128
PLAIN: Final[dict[str, Any]] = {
    "batch_size": 128,
    "label_smoothing": 0.0,
    "normalization": "none",
    "network": {
        "lstm": [UNITS, UNITS],
        "bidirectional": False,
        "pooling": "last",
        "dense": [],
        "dropout": {"lstm": 0.0, "dense": 0.0},
    },
    "optimizer": {"learning_rate": 0.2, "nesterov": True, "schedule": "one_cycle", "weight_decay": 0.0},
}
"""The network of `peers.frames_network`, with four times its batch and a rate that rises to ten times its own."""

PEER_BATCH, PEER_RATE = 32, 0.02

EQUAL: Final = 0.02
"""By which the accuracy may be lower than plain Keras's."""


@dataclass(frozen=True)
class Data:
    """A random split of a corpus, with its features."""

    training: Part
    validation: Part
    test: Part
    labels: int

    @classmethod
    def of(cls, made: workspace.Workspace, store: FeatureStore) -> "Data":
        """Return that of a workspace."""
        rows = manifests.read(made.manifest)
        split = splits.make(rows, "random", made.settings("split", SplitSettings))
        splits.write(made.folder / "random.csv", split)
        [fold] = splits.read(made.folder / "random.csv")
        labels = sorted(set(rows["emotion"]))
        number = dict(zip(rows["id"], rows["emotion"].map(labels.index), strict=True))

        def part(ids: Sequence[str]) -> Part:
            return Part(store.read(ids), np.array([number[name] for name in ids]))

        return cls(part(fold.train), part(fold.validation), part(fold.test), len(labels))

    def standardized(self) -> "Data":
        """Return the same with coefficients of mean 0 and deviation 1 over the training part."""
        together = np.concatenate(list(self.training.frames))
        mean, deviation = together.mean(axis=0), together.std(axis=0) + 1e-6

        def part(one: Part) -> Part:
            return Part([(frames - mean) / deviation for frames in one.frames], one.labels)

        return Data(part(self.training), part(self.validation), part(self.test), self.labels)


def main() -> None:
    """Measure, and write results/training.json."""
    given = measuring.options(__doc__).parse_args()
    corpus = workspace.tess()
    if given.tiny:
        corpus = corpus.cut(42)
    epochs = 2 if given.tiny else 5
    with workspace.made_of(corpus) as made:
        made.set({"augment": {"copies": 0}})
        made.featurize("ours")
        with measuring.one_core(), ProcessPoolExecutor(1, get_context("spawn")) as process:
            recipe = process.submit(_recipe, made, epochs).result()
        made.set({"featurize": workspace.REFERENCE, "augment": {"copies": 0}})
        made.featurize("reference")
        data = Data.of(made, FeatureStore(made.folder / "reference")).standardized()
        measuring.write_figures("training", [recipe, _epoch(data, epochs, tiny=given.tiny)], tiny=given.tiny)


def _recipe(made: workspace.Workspace, epochs: int) -> Figure:
    """Train the network of params.yaml for a few epochs; return the microseconds per frame of all but the first."""
    data = Data.of(made, FeatureStore(made.folder / "ours"))
    seconds, _ = _timed_training({"epochs": epochs}, data)
    frames = sum(map(len, data.training.frames))
    return Figure.of("training", [1e6 * one / frames for one in seconds], f"{frames} frames, validation included")


def _epoch(data: Data, epochs: int, *, tiny: bool) -> Figure:
    peer, network = _plain_keras(data, epochs)
    own, trained = _timed_training({"epochs": epochs, **PLAIN}, data)
    longest = max(map(len, data.training.frames))
    theirs = _accuracy(network.predict(_padded(data.test.frames, longest), batch_size=256, verbose=0), data.test)
    ours = _accuracy(predict_logits(trained.network, data.test.frames), data.test)
    note = f"test accuracy after {epochs} epochs {ours:.1%} and {theirs:.1%}"
    if ours < theirs - EQUAL and not tiny:
        return Figure("epoch", None, note=f"not comparable: {note}")
    return Figure.ratio("epoch", Times(tuple(own)), Times(tuple(peer)), note)


def _timed_training(changes: dict[str, Any], data: Data) -> tuple[list[float], Trained]:
    """Train with changed settings; return the seconds of each epoch but the first, which traces the graph."""
    values = read_params(measuring.ROOT / "params.yaml")["train"]
    for key, value in changes.items():
        values[key] = values[key] | value if isinstance(value, dict) else value
    moments: list[float] = []

    def on_epoch(_: Epoch) -> None:
        moments.append(time.perf_counter())

    with TemporaryDirectory() as scratch:
        trained = train(
            parse_section("train", TrainSettings, values),
            training=data.training,
            validation=data.validation,
            labels=data.labels,
            scratch=Path(scratch),
            on_epoch=on_epoch,
        )
    return np.diff(moments).tolist(), trained


def _plain_keras(data: Data, epochs: int) -> tuple[list[float], Any]:
    """Fit plain Keras; return the seconds of each epoch but the first, validation included, and the network."""
    keras.utils.set_random_seed(7)
    longest = max(len(one) for part in (data.training, data.validation) for one in part.frames)
    targets = np.eye(data.labels, dtype=np.float32)
    network = peers.frames_network(data.training.frames[0].shape[1], learning_rate=PEER_RATE)
    moments: list[float] = []
    network.fit(
        _padded(data.training.frames, longest),
        targets[data.training.labels],
        batch_size=PEER_BATCH,
        epochs=epochs,
        validation_data=(_padded(data.validation.frames, longest), targets[data.validation.labels]),
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: moments.append(time.perf_counter()))],
        verbose=0,
    )
    return np.diff(moments).tolist(), network


def _padded(frames: Sequence[np.ndarray], longest: int) -> np.ndarray:
    made = np.zeros((len(frames), longest, frames[0].shape[1]), np.float32)
    padded, _ = pad(frames)
    made[:, : padded.shape[1]] = padded[:, :longest]
    return made


def _accuracy(outputs: np.ndarray, part: Part) -> float:
    return float((outputs.argmax(axis=1) == part.labels).mean())


if __name__ == "__main__":
    measuring.main(main)
