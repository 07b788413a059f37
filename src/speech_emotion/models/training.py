"""Takes the features of a fold; gives a trained network and its history, the same bits again, also after a kill."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from speech_emotion.config.training import OptimizerSettings, TrainSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file, digest_json, replacing
from speech_emotion.features.frames import ChosenFrames, lengths_of
from speech_emotion.models import network as networks
from speech_emotion.models.backend import keras
from speech_emotion.models.backend import tensorflow as tf

BUCKET_BATCHES = 8
"""Batches that are sorted by length together, so that clips of like length share one and little is padded."""


@dataclass(frozen=True)
class Part:
    """One side of a split.

    Attributes
    ----------
    frames : sequence of np.ndarray [shape=(t, coefficients)]
        Of each utterance, as recorded.
    labels : np.ndarray [shape=(n,)]
        The index of each utterance's label.
    copies : tuple of sequence of np.ndarray
        The same utterances, in the same order, in other voices: each epoch hears each utterance in one of all.
    """

    frames: Sequence[np.ndarray]
    labels: np.ndarray
    copies: tuple[Sequence[np.ndarray], ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    def drawn(self, seed: int, epoch: int) -> Sequence[np.ndarray]:
        """Return each utterance in a voice drawn for an epoch, a function of (seed, epoch) alone."""
        voices = (self.frames, *self.copies)
        chosen = np.random.default_rng([seed, epoch, 1]).integers(len(voices), size=len(self))
        return ChosenFrames(voices, list(zip(chosen.tolist(), range(len(self)), strict=True)))


@dataclass(frozen=True)
class Epoch:
    """One row of history.csv. Losses are cross-entropies in nats; `val_loss` is without label smoothing.

    `loss` and `accuracy` are means over the members during training; `val_*` are of the whole model.
    """

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
        The model, all its members in one, with the weights that are kept: the best epoch's where early stopping is on,
        else the last's.
    statistics : tuple of np.ndarray [shape=(coefficients,)] or None
        Mean and deviation of each coefficient over the frames of the training part.
    history : tuple of Epoch
    best_epoch : int
        The epoch whose weights are kept, from 1.
    """

    network: keras.Model
    statistics: tuple[np.ndarray, np.ndarray] | None
    history: tuple[Epoch, ...]
    best_epoch: int


@dataclass(frozen=True)
class _Member:
    """One of the networks that a model is the mean of, in training."""

    network: keras.Model
    optimizer: keras.optimizers.Optimizer
    step: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[Any, Any]]

    @property
    def variables(self) -> list[Any]:
        return [*self.network.variables, *self.optimizer.variables]


@dataclass
class _Progress:
    """All that a training knows beside its data: what a checkpoint holds."""

    history: list[Epoch] = field(default_factory=list)
    best: list[np.ndarray] | None = None
    best_epoch: int = 0


Labelled = Sequence[tuple[str, str]]
"""Utterances as they are trained on: id and label."""


def training_digest(settings: TrainSettings, *, features: str, train: Labelled, validation: Labelled) -> str:
    """Return the digest of all that decides the weights: settings, data, and the code and libraries that train.

    Parameters
    ----------
    settings : TrainSettings
    features : str
        Digest of the feature store.
    train, validation : sequence of (str, str)
        Id and label of each utterance: the same recordings under other labels are another training.
    """
    sources = [Path(__file__), Path(networks.__file__)]
    return digest_json(
        {
            "settings": settings.model_dump(mode="json"),
            "features": features,
            "train": list(train),
            "validation": list(validation),
            "code": {source.name: digest_file(source) for source in sources},
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
    devices: Sequence[str] | None = None,
) -> Trained:
    """Fit the model's networks; go on from the last epoch where `scratch` holds one of the same training.

    Parameters
    ----------
    settings : TrainSettings
    training, validation : Part
    labels : int
        How many there are.
    scratch : Path
        Where the checkpoint lies, a folder of this training alone.
    on_epoch : callable
        Called with each epoch that was trained, those of an earlier, killed process among them.
    devices : sequence of str or None
        TensorFlow's names of those among which each batch is divided (`tf.distribute.MirroredStrategy`); None: all GPUs
        that it sees, where there are several, else the one that it takes by itself.

    Raises
    ------
    UserError
        The loss is no longer a number; says at which epoch and what to change.

    Notes
    -----
    The order of an epoch is a function of (seed, epoch), the learning rate one of the step, and a checkpoint holds the
    weights, the optimizer's momenta and the state of every dropout generator: so a training that was killed ends with
    the very weights of one that was not.
    """
    keras.utils.set_random_seed(settings.seed)
    statistics = _statistics(training.frames) if settings.normalization == "corpus" else None
    coefficients = training.frames[0].shape[1]
    strategy = _strategy(devices)

    def built() -> list[keras.Model]:
        return [
            networks.build(settings.network, coefficients=coefficients, labels=labels, statistics=statistics, seed=seed)
            for seed in _seeds(settings)
        ]

    with strategy.scope():
        members = [_member(one, settings, strategy) for one in built()]
    # what is judged and kept lives on one device; where training does too, it is the very network that is trained
    alone = strategy.num_replicas_in_sync == 1
    network = networks.combine([one.network for one in members] if alone else built())
    network.jit_compile = False
    checkpoint = scratch / "checkpoint.npz"
    progress = _restore(checkpoint, members)
    _bring(network, members)
    if progress.history:
        print(f"goes on after epoch {len(progress.history)}", flush=True)
    for row in progress.history:
        on_epoch(row)
    while not _finished(progress, settings):
        _one_epoch(network, members, settings, training, validation, labels, progress)
        _save_checkpoint(checkpoint, members, progress)
        on_epoch(progress.history[-1])
    if progress.best is not None:
        network.set_weights(progress.best)
    return Trained(network, statistics, tuple(progress.history), progress.best_epoch or len(progress.history))


def _seeds(settings: TrainSettings) -> range:
    """Return the seed of each member: of its first weights, its dropout, its order and its voices."""
    return range(settings.seed, settings.seed + settings.members)


def _strategy(devices: Sequence[str] | None) -> Any:
    if devices is None:
        gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
        devices = gpus if len(gpus) > 1 else []
    return tf.distribute.MirroredStrategy(list(devices)) if devices else tf.distribute.get_strategy()


def _member(network: keras.Model, settings: TrainSettings, strategy: Any) -> _Member:
    """Take a network built in the scope of a strategy; give it with its optimizer and a step of training."""
    replicas = strategy.num_replicas_in_sync
    optimizer = _sgd(settings.optimizer, replicas)
    optimizer.build(network.trainable_variables)
    loss_of = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=settings.label_smoothing, reduction="sum"
    )
    (_, _, coefficients), (_, labels) = network.inputs[0].shape, network.outputs[0].shape

    def on_a_device(frames: Any, lengths: Any, targets: Any) -> tuple[Any, Any]:
        context = tf.distribute.get_replica_context()
        own = slice(context.replica_id_in_sync_group, None, replicas)
        count = tf.cast(tf.shape(targets)[0], tf.float32)
        with tf.GradientTape() as tape:
            logits = network([frames[own], lengths[own]], training=True)
            loss = loss_of(targets[own], logits) / count
        gradients = tape.gradient(loss, network.trainable_variables)
        if replicas > 1:
            # Keras adds up what it has clipped; what it clips is to be of the whole batch
            gradients = [one / replicas for one in context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)]
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        right = tf.equal(tf.argmax(logits, axis=1), tf.argmax(targets[own], axis=1))
        return loss, tf.reduce_sum(tf.cast(right, tf.float32)) / count

    # One trace serves batches of every length: tracing the gradient of an LSTM takes seconds, and Keras's
    # `train_on_batch` does it three times. Compiled by XLA, an LSTM trains several times slower on CPU.
    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, coefficients), tf.float32),
            tf.TensorSpec((None,), tf.int32),
            tf.TensorSpec((None, labels), tf.float32),
        ],
        autograph=False,
        jit_compile=False,
    )
    def step(frames: Any, lengths: Any, targets: Any) -> tuple[Any, Any]:
        told = strategy.run(on_a_device, (frames, lengths, targets))
        return tuple(strategy.reduce(tf.distribute.ReduceOp.SUM, one, axis=None) for one in told)

    return _Member(network, optimizer, step)


def predict_logits(network: keras.Model, frames: Sequence[np.ndarray], batch_size: int = 256) -> np.ndarray:
    """Return the network's logits [shape=(n, labels)] for utterances [shape=(t, coefficients)], in their order."""
    order = np.argsort(lengths_of(frames), kind="stable")
    rows: list[np.ndarray] = []
    for start in range(0, len(order), batch_size):
        padded, lengths = pad([frames[index] for index in order[start : start + batch_size]])
        rows.append(network.predict_on_batch([padded, lengths]))
    logits = np.concatenate(rows)
    return logits[np.argsort(order, kind="stable")]


def pad(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return utterances as one array (n, longest, coefficients), zero padded, and their lengths (n,) int32."""
    lengths = np.array([len(one) for one in frames], dtype=np.int32)
    padded = np.zeros((len(frames), lengths.max(), frames[0].shape[1]), dtype=np.float32)
    for row, one in zip(padded, frames, strict=True):
        row[: len(one)] = one
    return padded, lengths


def batches(lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Yield the indices of each batch of an epoch: shuffled, but with clips of like length together.

    Parameters
    ----------
    lengths : np.ndarray [shape=(n,)]
        Frames of each utterance.
    batch_size : int
    seed, epoch : int
        The order is a function of these two alone.
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


def learning_rate(settings: OptimizerSettings, *, step: int, steps: int) -> float:
    """Return the learning rate of a step out of `steps`.

    `one cycle` climbs by a cosine from a 25th to the full rate over the first 30 % of the steps and falls to nothing
    over the rest (Smith, 2018, arXiv:1803.09820); `cosine` falls from the start (Loshchilov, 2017, arXiv:1608.03983).
    """
    done = step / max(1, steps)
    highest = settings.learning_rate
    if settings.schedule == "constant":
        return highest
    climb = 0.3 if settings.schedule == "one cycle" else 0.0
    if done < climb:
        lowest = highest / 25
        return lowest + (highest - lowest) * 0.5 * (1 - float(np.cos(np.pi * done / climb)))
    return highest * 0.5 * (1 + float(np.cos(np.pi * (done - climb) / (1 - climb))))


def _sgd(settings: OptimizerSettings, replicas: int) -> keras.optimizers.SGD:
    return keras.optimizers.SGD(
        settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        global_clipnorm=settings.clip_norm and settings.clip_norm / replicas,
        weight_decay=settings.weight_decay or None,
    )


def _statistics(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    count = int(lengths_of(frames).sum())
    mean = sum(one.sum(axis=0, dtype=np.float64) for one in frames) / count
    variance = sum(((one - mean) ** 2).sum(axis=0) for one in frames) / count
    return mean.astype(np.float32), (np.sqrt(variance) + 1e-6).astype(np.float32)


def _one_epoch(
    network: keras.Model,
    members: Sequence[_Member],
    settings: TrainSettings,
    training: Part,
    validation: Part,
    labels: int,
    progress: _Progress,
) -> None:
    """Train each member for an epoch and write down how the model that they are together stands."""
    epoch = len(progress.history)
    losses, accuracies = [], []
    rate = 0.0
    for member, seed in zip(members, _seeds(settings), strict=True):
        loss, accuracy, rate = _fit(member, settings, training, labels, seed=seed, epoch=epoch)
        losses.append(loss)
        accuracies.append(accuracy)
    _bring(network, members)
    loss, accuracy, uar = _validate(network, validation)
    progress.history.append(
        Epoch(
            epoch + 1,
            float(np.mean(losses)),
            float(np.mean(accuracies)),
            loss,
            accuracy,
            uar,
            round(rate, 10),
        )
    )
    _keep_best(network, settings, progress)


def _fit(
    member: _Member, settings: TrainSettings, training: Part, labels: int, *, seed: int, epoch: int
) -> tuple[float, float, float]:
    """Train one network for an epoch; return its mean loss, its accuracy, and the last learning rate."""
    frames = training.drawn(seed, epoch)
    lengths = lengths_of(frames)
    steps = -(-len(training) // settings.batch_size)
    targets = np.eye(labels, dtype=np.float32)[training.labels]
    sums = np.zeros(2)
    rate = 0.0
    for number, chosen in enumerate(batches(lengths, settings.batch_size, seed=seed, epoch=epoch)):
        rate = learning_rate(settings.optimizer, step=epoch * steps + number, steps=settings.epochs * steps)
        member.optimizer.learning_rate.assign(rate)
        padded, real = pad([frames[index] for index in chosen])
        sums += len(chosen) * np.array([float(one) for one in member.step(padded, real, targets[chosen])])
    loss, accuracy = map(float, sums / len(training))
    _refuse_nan(loss, epoch + 1, settings)
    return loss, accuracy, rate


def unweighted_recall(truth: np.ndarray, heard: np.ndarray) -> float:
    """Return the mean recall of the labels that occur in `truth`, both [shape=(n,)], integers.

    What `sklearn.metrics.balanced_accuracy_score` gives, without its import, which takes as long as an epoch.
    """
    return float(np.mean([(heard[truth == label] == label).mean() for label in np.unique(truth)]))


def _validate(network: keras.Model, part: Part) -> tuple[float, float, float]:
    logits = predict_logits(network, part.frames).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    heard = logits.argmax(axis=1)
    loss = -log_probabilities[np.arange(len(part)), part.labels].mean()
    return float(loss), float((heard == part.labels).mean()), unweighted_recall(part.labels, heard)


def _bring(network: keras.Model, members: Sequence[_Member]) -> None:
    """Give the network that is judged the weights that were trained, where it has weights of its own."""
    judged = networks.members(network)
    for own, trained in zip(judged, members, strict=True):
        if own.variables[0] is not trained.network.variables[0]:
            own.set_weights(trained.network.get_weights())


def _keep_best(network: keras.Model, settings: TrainSettings, progress: _Progress) -> None:
    if settings.early_stopping is None:
        return
    sign = -1 if settings.early_stopping.monitor == "val_loss" else 1
    values = [sign * getattr(row, settings.early_stopping.monitor) for row in progress.history]
    if int(np.argmax(values)) == len(values) - 1:
        progress.best, progress.best_epoch = network.get_weights(), len(values)


def _finished(progress: _Progress, settings: TrainSettings) -> bool:
    epochs = len(progress.history)
    waited = epochs - progress.best_epoch
    return epochs >= settings.epochs or (
        settings.early_stopping is not None and epochs > 0 and waited >= settings.early_stopping.patience
    )


def _refuse_nan(loss: float, epoch: int, settings: TrainSettings) -> None:
    if not np.isfinite(loss):
        clip = settings.optimizer.clip_norm
        raise UserError(
            f"train: the loss is no longer a number in epoch {epoch}. Lower train.optimizer.learning_rate "
            f"({settings.optimizer.learning_rate:g}) or {'lower' if clip else 'set'} train.optimizer.clip_norm."
        )


def _variables(members: Sequence[_Member]) -> list[Any]:
    return [variable for one in members for variable in one.variables]


def _save_checkpoint(path: Path, members: Sequence[_Member], progress: _Progress) -> None:
    arrays: dict[str, Any] = {
        f"variable_{index}": np.asarray(variable) for index, variable in enumerate(_variables(members))
    }
    arrays |= {f"best_{index}": weight for index, weight in enumerate(progress.best or [])}
    rows = np.array([tuple(asdict(row).values()) for row in progress.history], dtype=np.float64)
    buffer = io.BytesIO()
    arrays |= {"history": rows, "best_epoch": np.array(progress.best_epoch)}
    np.savez(buffer, allow_pickle=False, **arrays)
    with replacing(path) as aside:
        aside.write_bytes(buffer.getvalue())


def _restore(path: Path, members: Sequence[_Member]) -> _Progress:
    if not path.exists():
        return _Progress()
    with np.load(path, allow_pickle=False) as saved:
        for index, variable in enumerate(_variables(members)):
            variable.assign(saved[f"variable_{index}"])
        count = sum(len(one.network.get_weights()) for one in members)
        return _Progress(
            history=[Epoch(int(row[0]), *map(float, row[1:])) for row in saved["history"]],
            best=[saved[f"best_{index}"] for index in range(count)] if "best_0" in saved else None,
            best_epoch=int(saved["best_epoch"]),
        )
