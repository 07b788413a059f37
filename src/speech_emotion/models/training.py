"""Train a network on one fold with Keras `fit`, resumable to the same weights after a kill."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import balanced_accuracy_score

from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.config.training import OptimizerSettings, TrainSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file, digest_json, replacing
from speech_emotion.features.enrolment import References
from speech_emotion.features.frames import ChosenFrames, lengths_of, pad
from speech_emotion.features.perturbation import Perturbation, draw
from speech_emotion.models import network as networks
from speech_emotion.models.backend import keras
from speech_emotion.models.backend import tensorflow as tf

BUCKET_BATCHES = 8
"""Batches sorted by length together, so that utterances of similar length share a batch and padding is short."""

_WARMUP_SHARE = 0.3
_WARMUP_DIVISOR = 25
"""`one_cycle` starts at 1/25 of the highest rate and reaches it after 30 % of the steps."""


@dataclass(frozen=True)
class Part:
    """The utterances of one part of a split.

    Attributes
    ----------
    frames : sequence of np.ndarray [shape=(t, coefficients)]
        Features of each recording.
    labels : np.ndarray [shape=(n,)]
        Label index of each utterance.
    copies : tuple of sequence of np.ndarray
        Augmented copies in the same order. Each epoch draws the recording or one of its copies.
    weights : np.ndarray [shape=(n,)] or None
        Weight of each utterance in the loss; None: 1.
    references : References or None
        The utterances as references of their speakers.
    features : FeaturizeSettings or None
        Of the frames; needed for `train.perturb`.
    """

    frames: Sequence[np.ndarray]
    labels: np.ndarray
    copies: tuple[Sequence[np.ndarray], ...] = ()
    weights: np.ndarray | None = None
    references: References | None = None
    features: FeaturizeSettings | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def drawn(self, seed: int, epoch: int) -> tuple[np.ndarray, Sequence[np.ndarray]]:
        """Return the number and the frames of a version of each utterance; the draw depends only on (seed, epoch)."""
        versions = (self.frames, *self.copies)
        chosen = np.random.default_rng([seed, epoch, 1]).integers(len(versions), size=len(self))
        return chosen, ChosenFrames(versions, list(zip(chosen.tolist(), range(len(self)), strict=True)))


@dataclass(frozen=True)
class Epoch:
    """One row of history.csv. Losses are cross-entropies in nats; `val_loss` is without label smoothing."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_uar: float
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes
    ----------
    network : keras.Model
        With the weights of `best_epoch`.
    statistics : tuple of np.ndarray [shape=(coefficients,)] or None
        Mean and standard deviation of each coefficient over the frames of the training part.
    history : tuple of Epoch
    best_epoch : int
        The epoch whose weights are kept, from 1: the last one, or the best one with early stopping.
    """

    network: keras.Model
    statistics: tuple[np.ndarray, np.ndarray] | None
    history: tuple[Epoch, ...]
    best_epoch: int


Labelled = Sequence[tuple[str, ...]]
"""Id, label, corpus and speaker of each utterance."""


def training_digest(settings: TrainSettings, *, features: str, train: Labelled, validation: Labelled) -> str:
    """Return the SHA-256 of everything that determines the weights: settings, data, code and library versions.

    Parameters
    ----------
    settings : TrainSettings
    features : str
        Digest of the feature store.
    train, validation : sequence of (str, str, str, str)
        Id, label, corpus and speaker of each utterance.
    """
    package = Path(__file__).parent.parent
    sources = [
        *sorted((package / "features").glob("*.py")),
        *(package / "models" / f"{name}.py" for name in ("backend", "cross_validation", "network", "training")),
    ]
    return digest_json(
        {
            "settings": settings.model_dump(mode="json"),
            "features": features,
            "train": list(train),
            "validation": list(validation),
            "code": {source.relative_to(package).as_posix(): digest_file(source) for source in sources},
            "libraries": {"keras": keras.__version__, "numpy": np.__version__, "tensorflow": tf.__version__},
        }
    )


def train(
    settings: TrainSettings,
    *,
    training: Part,
    validation: Part,
    labels: int,
    scratch: Path,
    on_epoch: Callable[[Epoch], None],
) -> Trained:
    """Train a network, or resume from the last epoch whose checkpoint is in `scratch`.

    It ends after `settings.epochs`, or after `early_stopping.patience` epochs without a lower validation loss.

    Parameters
    ----------
    settings : TrainSettings
    training, validation : Part
    labels : int
        Number of labels.
    scratch : Path
        Folder of the checkpoint, used by this training only.
    on_epoch : callable
        Called with each epoch, including those of an earlier process that was killed. Its exceptions end the training.

    Raises
    ------
    UserError
        The loss became NaN or infinite.

    Notes
    -----
    The order of an epoch depends only on (seed, epoch) and the learning rate only on the step. The checkpoint holds the
    weights, the optimizer and the state of every dropout generator. A resumed training therefore ends in the same
    weights as an uninterrupted one.
    """
    keras.utils.set_random_seed(settings.seed)
    statistics = _statistics(training.frames) if settings.normalization == "corpus" else None
    coefficients = training.frames[0].shape[1]
    network = networks.build(
        settings.network, coefficients=coefficients, labels=labels, statistics=statistics, seed=settings.seed
    )
    steps = settings.epochs * -(-len(training) // settings.batch_size)
    network.compile(
        optimizer=_sgd(settings.optimizer, steps=steps),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing),
        metrics=["categorical_accuracy"],
        # compiled by XLA, an LSTM trains several times slower on CPU
        jit_compile=False,
    )
    network.optimizer.build(network.trainable_variables)
    state = _TrainingState(scratch / "checkpoint.npz", network, settings, validation, on_epoch)
    if state.history:
        print(f"Resuming from epoch {len(state.history)}", flush=True)
    for row in state.history:
        on_epoch(row)
    if not state.finished:
        network.fit(
            _dataset(training, settings, statistics, coefficients=coefficients, labels=labels, state=state),
            initial_epoch=len(state.history),
            epochs=settings.epochs,
            callbacks=[state],
            shuffle=False,
            verbose=0,
        )
    if state.best is not None:
        network.set_weights(state.best)
    return Trained(network, statistics, tuple(state.history), state.best_epoch or len(state.history))


class _TrainingState(keras.callbacks.Callback):
    """Validate after each epoch, save a checkpoint that resumes to the same weights, and stop early."""

    def __init__(
        self,
        path: Path,
        network: keras.Model,
        settings: TrainSettings,
        validation: Part,
        on_epoch: Callable[[Epoch], None],
    ) -> None:
        super().__init__()
        self.path, self.network, self.settings = path, network, settings
        self.validation, self.on_epoch = validation, on_epoch
        self.history: list[Epoch] = []
        self.best: list[np.ndarray] | None = None
        self.best_epoch = 0
        self.epoch = 0
        if path.exists():
            self._restore()

    @property
    def finished(self) -> bool:
        epochs, stopping = len(self.history), self.settings.early_stopping
        waited = epochs - self.best_epoch
        return epochs >= self.settings.epochs or (stopping is not None and epochs > 0 and waited >= stopping.patience)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        assert logs is not None
        _refuse_nan(logs["loss"], epoch + 1, self.settings)
        val_loss, val_accuracy, val_uar = _validate(self.network, self.validation)
        rate = float(self.network.optimizer.learning_rate)
        self.history.append(
            Epoch(
                epoch + 1, logs["loss"], logs["categorical_accuracy"], val_loss, val_accuracy, val_uar, round(rate, 10)
            )
        )
        losses = [row.val_loss for row in self.history]
        if self.settings.early_stopping is not None and int(np.argmin(losses)) == epoch:
            self.best, self.best_epoch = self.network.get_weights(), epoch + 1
        self._save()
        self.on_epoch(self.history[-1])
        self.network.stop_training = self.finished

    @property
    def _variables(self) -> list[Any]:
        return [*self.network.variables, *self.network.optimizer.variables]

    def _save(self) -> None:
        arrays: dict[str, Any] = {f"variable_{n}": np.asarray(one) for n, one in enumerate(self._variables)}
        arrays |= {f"best_{n}": weight for n, weight in enumerate(self.best or [])}
        rows = np.array([tuple(asdict(row).values()) for row in self.history], dtype=np.float64)
        arrays |= {"history": rows, "best_epoch": np.array(self.best_epoch)}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        with replacing(self.path) as temporary:
            temporary.write_bytes(buffer.getvalue())

    def _restore(self) -> None:
        with np.load(self.path, allow_pickle=False) as saved:
            for number, variable in enumerate(self._variables):
                variable.assign(saved[f"variable_{number}"])
            self.history = [Epoch(int(row[0]), *map(float, row[1:])) for row in saved["history"]]
            self.best_epoch = int(saved["best_epoch"])
            if "best_0" in saved:
                self.best = [saved[f"best_{n}"] for n in range(len(self.network.get_weights()))]


def _dataset(
    training: Part,
    settings: TrainSettings,
    statistics: tuple[np.ndarray, np.ndarray] | None,
    *,
    coefficients: int,
    labels: int,
    state: _TrainingState,
) -> tf.data.Dataset:
    """Return the batches of the current epoch, padded to their longest utterance."""
    targets = np.eye(labels, dtype=np.float32)[training.labels]
    members = settings.network.members
    weights = np.ones(len(training), np.float32) if training.weights is None else training.weights.astype(np.float32)

    def perturbed(frames: np.ndarray, perturbation: Perturbation | None) -> np.ndarray:
        return perturbation.applied(frames) if perturbation else frames

    def epoch_batches() -> Iterator[tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]]:
        versions, frames = training.drawn(settings.seed, state.epoch)
        perturbations: list[Perturbation | None] = [None] * len(training)
        if settings.perturb and training.features:
            rng = np.random.default_rng([settings.seed, state.epoch, 3])
            perturbations = draw(settings.perturb, training.features, len(training), rng)
        shifts = np.zeros((len(training), coefficients), np.float32)
        if settings.references and training.references and statistics:
            rng = np.random.default_rng([settings.seed, state.epoch, 2])
            shifts = training.references.shifts(versions, settings.references, statistics, rng, perturbations)
        for chosen in batches(lengths_of(frames), settings.batch_size, seed=settings.seed, epoch=state.epoch):
            yield (
                pad([perturbed(frames[index], perturbations[index]) - shifts[index] for index in chosen]),
                np.repeat(targets[chosen][:, None], members, axis=1) if members > 1 else targets[chosen],
                weights[chosen, None] if members > 1 else weights[chosen],
            )

    # the time axis is left open: one trace of the training step serves batches of every length
    signature = (
        (tf.TensorSpec((None, None, coefficients), tf.float32), tf.TensorSpec((None,), tf.int32)),
        tf.TensorSpec((None, members, labels) if members > 1 else (None, labels), tf.float32),
        tf.TensorSpec((None, 1) if members > 1 else (None,), tf.float32),
    )
    steps = -(-len(training) // settings.batch_size)
    dataset = tf.data.Dataset.from_generator(epoch_batches, output_signature=signature)
    # there is nothing to tune, and the end of an epoch would wait for the tuning thread, up to as long as the epoch
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).with_options(options)


def predict_logits(network: keras.Model, frames: Sequence[np.ndarray], batch_size: int = 256) -> np.ndarray:
    """Return the logits [shape=(n, labels)] of utterances [shape=(t, coefficients)], in their order."""
    order = np.argsort(lengths_of(frames), kind="stable")
    rows: list[np.ndarray] = []
    for start in range(0, len(order), batch_size):
        padded, lengths = pad([frames[index] for index in order[start : start + batch_size]])
        rows.append(network.predict_on_batch([padded, lengths]))
    logits = np.concatenate(rows)
    if logits.ndim == 3:  # of an ensemble
        logits = logits.mean(axis=1)
    return logits[np.argsort(order, kind="stable")]


def batches(lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Yield the utterance indices of each batch of an epoch: shuffled, with similar lengths together.

    Parameters
    ----------
    lengths : np.ndarray [shape=(n,)]
        Number of frames of each utterance.
    batch_size : int
    seed, epoch : int
        The order depends only on these two.
    """
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(lengths))
    made: list[np.ndarray] = []
    for start in range(0, len(shuffled), batch_size * BUCKET_BATCHES):
        bucket = shuffled[start : start + batch_size * BUCKET_BATCHES]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        made += [bucket[first : first + batch_size] for first in range(0, len(bucket), batch_size)]
    for index in rng.permutation(len(made)):
        yield made[index]


def schedule(settings: OptimizerSettings, *, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning rate over `steps` training steps.

    `one_cycle` rises linearly to the highest rate over the first 30 % of the steps and falls to zero along a cosine
    (Smith, 2018, arXiv:1803.09820). `cosine` falls from the start (Loshchilov and Hutter, 2017, arXiv:1608.03983).
    """
    highest = settings.learning_rate
    if settings.schedule == "constant":
        return highest
    if settings.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(highest, decay_steps=steps)
    warmup = max(1, round(_WARMUP_SHARE * steps))
    return keras.optimizers.schedules.CosineDecay(
        highest / _WARMUP_DIVISOR, decay_steps=max(1, steps - warmup), warmup_target=highest, warmup_steps=warmup
    )


def _sgd(settings: OptimizerSettings, *, steps: int) -> keras.optimizers.SGD:
    return keras.optimizers.SGD(
        schedule(settings, steps=steps),
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        global_clipnorm=settings.clip_norm,
        weight_decay=settings.weight_decay or None,
    )


def _statistics(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    count = int(lengths_of(frames).sum())
    mean = sum(one.sum(axis=0, dtype=np.float64) for one in frames) / count
    variance = sum(((one - mean) ** 2).sum(axis=0) for one in frames) / count
    return mean.astype(np.float32), (np.sqrt(variance) + 1e-6).astype(np.float32)


def _validate(network: keras.Model, part: Part) -> tuple[float, float, float]:
    """Return negative log-likelihood, accuracy and UAR."""
    logits = predict_logits(network, part.frames).astype(np.float64)
    predicted = logits.argmax(axis=1)
    loss = -log_softmax(logits, axis=1)[np.arange(len(part)), part.labels].mean()
    accuracy = (predicted == part.labels).mean()
    return float(loss), float(accuracy), float(balanced_accuracy_score(part.labels, predicted))


def _refuse_nan(loss: float, epoch: int, settings: TrainSettings) -> None:
    if not np.isfinite(loss):
        clip = settings.optimizer.clip_norm
        raise UserError(
            f"train: loss became NaN in epoch {epoch}. Lower train.optimizer.learning_rate "
            f"({settings.optimizer.learning_rate:g}) or {'lower' if clip else 'set'} train.optimizer.clip_norm."
        )
