"""Training time compared with the reference recipe, plain Keras and the machine's own products.

    TESS_DIR=/path/to/tess python benchmarks/training.py            # a few epochs of the reference recipe
    TESS_DIR=/path/to/tess python benchmarks/training.py --whole    # all epochs: minutes

* To the test accuracy of the reference project on the same random split: our recipe in full (`QUICK`), and a few epochs
  of the reference recipe, extrapolated.
* One epoch of two LSTM layers of 128 units over frames: `model.fit` on batches of 32 padded to the longest utterance of
  all, and our batches; both train the same number of epochs and must reach equal accuracy.
* The floor: the time of that epoch's matrix products alone.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

import measuring
import peers
import workspace
from measuring import Figure, Spread, Times
from speech_emotion.config.base import parse_section, read_params
from speech_emotion.config.data import SplitSettings
from speech_emotion.config.training import TrainSettings
from speech_emotion.data import manifest as manifests
from speech_emotion.data import splits
from speech_emotion.features.store import FeatureStore
from speech_emotion.models.training import Epoch, Part, pad, predict_logits, train

ACCURACY: Final = 0.94
"""Of the reference project, on its test part."""

QUICK: Final[dict[str, Any]] = {
    "epochs": 3,
    "batch_size": 64,
    "label_smoothing": 0.0,
    "network": {
        "lstm": [32],
        "bidirectional": False,
        "pooling": "mean",
        "dense": [],
        "dropout": {"lstm": 0.0, "dense": 0.0},
    },
    "optimizer": {"learning_rate": 0.3},
}
"""What differs from params.yaml, for a model that is as right as the reference as soon as possible."""

UNITS: Final = 128
PLAIN: Final[dict[str, Any]] = {
    "label_smoothing": 0.0,
    "normalization": "none",
    "network": {
        "lstm": [UNITS, UNITS],
        "bidirectional": False,
        "pooling": "last",
        "dense": [],
        "dropout": {"lstm": 0.0, "dense": 0.0},
    },
    "optimizer": {"nesterov": True, "schedule": "one_cycle", "weight_decay": 0.0},
}
"""The network of `peers.frames_network`, trained as the library would."""

RECIPE_EPOCHS, RECIPE_RUN = 33, 5
"""Of the reference recipe, and how many of them are run."""

PLAIN_BATCH, PLAIN_RATE = 32, 0.02
BATCH, RATE = 128, 0.2
"""A batch of four times as many, and a rate that climbs to ten times as much and falls again."""

EQUAL: Final = 0.02
"""By which the accuracy after the same epochs may be lower than plain Keras's."""


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
        with TemporaryDirectory() as folder:
            splits.write(Path(folder) / "random.csv", split)
            [fold] = splits.read(Path(folder) / "random.csv")
        labels = sorted(set(rows["emotion"]))
        number = dict(zip(rows["id"], rows["emotion"].map(labels.index), strict=True))

        def part(ids: Sequence[str]) -> Part:
            return Part(store.read(ids), np.array([number[name] for name in ids]))

        return cls(part(fold.train), part(fold.validation), part(fold.test), len(labels))


def main() -> None:
    """Measure, and write results/training.json."""
    parser = measuring.options(__doc__)
    parser.add_argument("--whole", action="store_true", help="the reference recipe with all of its epochs")
    given = parser.parse_args()
    corpus = workspace.tess()
    if given.tiny:
        corpus = corpus.cut(84)
    with workspace.made_of(corpus) as made:
        made.set({"augment": {"copies": 0}})
        ours = _data(made, "ours")
        made.set({"featurize": workspace.REFERENCE, "augment": {"copies": 0}})
        reference = _data(made, "reference")
        figures = [
            _to_accuracy(ours, reference, tiny=given.tiny, whole=given.whole),
            *_an_epoch(_standardized(reference), epochs=2 if given.tiny else 5, tiny=given.tiny),
        ]
    measuring.write_figures("training", figures, tiny=given.tiny)


def _data(made: workspace.Workspace, name: str) -> Data:
    made.featurize(name)
    return Data.of(made, FeatureStore(made.folder / name))


def settings_of(changes: dict[str, Any]) -> TrainSettings:
    """Return the section `train` of params.yaml with some values changed, those inside of its own sections too."""
    values = read_params(measuring.ROOT / "params.yaml")["train"]
    for key, value in changes.items():
        values[key] = values[key] | value if isinstance(value, dict) else value
    return parse_section("train", TrainSettings, values)


def _to_accuracy(ours: Data, reference: Data, *, tiny: bool, whole: bool) -> Figure:
    means = _means(reference)
    right: list[float] = []

    def quick() -> None:
        found = _train(settings_of(QUICK | ({"epochs": 1} if tiny else {})), ours)
        right.append(_accuracy(predict_logits(found.network, ours.test.frames), ours.test.labels))

    # The recipe takes minutes, so it is followed once, between two of ours. Neither has anything to be warmed up by.
    before = measuring.timed(quick)
    peer, theirs = _recipe(means, ours.test.labels, epochs=RECIPE_EPOCHS if whole else 2 if tiny else RECIPE_RUN)
    own = Times((before,) if tiny else (before, measuring.timed(quick)))
    reached = min(right)
    note = f"test accuracy {reached:.1%} after {own.median:.1f} s"
    note += f" against {theirs:.1%}" if whole else f"; {RECIPE_RUN} of the recipe's {RECIPE_EPOCHS} epochs were run"
    if reached < ACCURACY and not tiny:
        return Figure("train 94", None, note=f"no ratio: {note}, below the {ACCURACY:.0%} to reach")
    return Figure.ratio("train 94", own, Times((peer,) * len(own.seconds)), note)


def _recipe(means: dict[str, tuple[np.ndarray, np.ndarray]], labels: np.ndarray, *, epochs: int) -> tuple[float, float]:
    """Follow the reference recipe for some epochs; return the seconds of all of them, and the test accuracy so far.

    The first epoch builds what the others run, and so is taken as it is; those that are not run last as long as the
    middle one of those that are.
    """
    from speech_emotion.models.backend import keras

    moments = [time.perf_counter()]
    network = peers.reference_network()
    network.fit(
        *means["training"],
        batch_size=32,
        epochs=epochs,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: moments.append(time.perf_counter()))],
        verbose=0,
    )
    run = np.diff(moments)
    seconds = float(run.sum() + (RECIPE_EPOCHS - epochs) * np.median(run[1:]))
    return seconds, _accuracy(network.predict(means["test"][0], verbose=0), labels)


def _means(data: Data) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what the reference model hears [shape=(n, 40, 1)] and one-hot labels, by part."""
    parts = {"training": data.training, "test": data.test}
    return {
        name: (np.stack([one.mean(axis=0) for one in part.frames])[:, :, None], np.eye(data.labels)[part.labels])
        for name, part in parts.items()
    }


def _standardized(data: Data) -> Data:
    """Return the same with coefficients of mean 0 and deviation 1 over the training part, for both sides alike."""
    together = np.concatenate(list(data.training.frames))
    mean, deviation = together.mean(axis=0), together.std(axis=0) + 1e-6

    def part(one: Part) -> Part:
        return Part([(frames - mean) / deviation for frames in one.frames], one.labels)

    return Data(part(data.training), part(data.validation), part(data.test), data.labels)


def _an_epoch(data: Data, *, epochs: int, tiny: bool) -> list[Figure]:
    plain, plain_network = _plain_epochs(data, epochs)
    changes = {
        "epochs": epochs,
        "batch_size": BATCH,
        **PLAIN,
        "optimizer": {**PLAIN["optimizer"], "learning_rate": RATE},
    }
    moments = [time.perf_counter()]
    trained = _train(settings_of(changes), data, moments)
    # the first epoch builds the function that all of them run
    own, peer = Times(tuple(np.diff(moments)[1:])), Times(tuple(plain[1:]))
    longest = max(len(one) for one in data.training.frames)
    theirs = _accuracy(
        plain_network.predict(_padded(data.test.frames, longest), batch_size=256, verbose=0), data.test.labels
    )
    ours = _accuracy(predict_logits(trained.network, data.test.frames), data.test.labels)
    note = f"test accuracy after {epochs} epochs {ours:.1%} against {theirs:.1%}"
    ratio = Figure.ratio("epoch", own, peer, note)
    if ours < theirs - EQUAL and not tiny:
        ratio = Figure("epoch", None, note=f"no ratio: {note}, which is not as right")
    rate = _multiplications(512 if tiny else 2048)
    floor = _products(data.training.frames) / rate
    over = Spread.of([one / floor for one in own.seconds])
    return [
        ratio,
        Figure("epoch floor", over, own.median, floor, f"{rate / 1e9:.0f} GFLOP/s on {measuring.core_count()} cores"),
    ]


def _plain_epochs(data: Data, epochs: int) -> tuple[list[float], Any]:
    """Fit plain Keras; return the seconds of each epoch, its look at the validation part included, and the network."""
    from speech_emotion.models.backend import keras

    keras.utils.set_random_seed(7)
    longest = max(len(one) for part in (data.training, data.validation) for one in part.frames)
    targets = np.eye(data.labels, dtype=np.float32)
    network = peers.frames_network(data.training.frames[0].shape[1], learning_rate=PLAIN_RATE)
    inside, outside = (_padded(part.frames, longest) for part in (data.training, data.validation))
    moments = [time.perf_counter()]
    network.fit(
        inside,
        targets[data.training.labels],
        batch_size=PLAIN_BATCH,
        epochs=epochs,
        validation_data=(outside, targets[data.validation.labels]),
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: moments.append(time.perf_counter()))],
        verbose=0,
    )
    return list(np.diff(moments)), network


def _train(settings: TrainSettings, data: Data, moments: list[float] | None = None) -> Any:
    def on_epoch(_: Epoch) -> None:
        if moments is not None:
            moments.append(time.perf_counter())

    with TemporaryDirectory() as scratch:
        return train(
            settings,
            training=data.training,
            validation=data.validation,
            labels=data.labels,
            scratch=Path(scratch),
            on_epoch=on_epoch,
        )


def _padded(frames: Sequence[np.ndarray], longest: int) -> np.ndarray:
    made = np.zeros((len(frames), longest, frames[0].shape[1]), np.float32)
    padded, _ = pad(frames)
    made[:, : padded.shape[1]] = padded[:, :longest]
    return made


def _accuracy(answers: np.ndarray, labels: np.ndarray) -> float:
    return float((answers.argmax(axis=1) == labels).mean())


def _products(frames: Sequence[np.ndarray]) -> float:
    """Return the floating point operations of an epoch's matrix products, if no frame were padded.

    A layer multiplies its input and its own last state by the weights of four gates; the way back takes twice that.
    """
    forward = 0
    inputs = frames[0].shape[1]
    for units in PLAIN["network"]["lstm"]:
        forward += 2 * (inputs + units) * 4 * units
        inputs = units
    return float(3 * forward * sum(len(one) for one in frames))


def _multiplications(size: int) -> float:
    """Return the operations a second of the machine's largest products, single precision, all cores."""
    one = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    found = measuring.interleaved({"product": lambda: one @ one}, 5)["product"]
    return 2 * size**3 / min(found.seconds)


if __name__ == "__main__":
    measuring.main(main)
