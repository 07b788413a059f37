from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from helpers.examples import network_settings
from speech_emotion.config.base import parse_section, read_params
from speech_emotion.config.training import NetworkSettings, TrainSettings
from speech_emotion.models import network as models_network
from speech_emotion.models import onnx_export

COEFFICIENTS, LABELS = 5, 4
STATISTICS = (np.full(COEFFICIENTS, 0.5, np.float32), np.full(COEFFICIENTS, 2.0, np.float32))

POOLINGS = ("last", "mean", "mean_and_std", "max", "attention")
NETWORKS = [
    *(
        network_settings(pooling=pooling, lstm=(6, 4), batch_norm=True, **changes)
        for changes in (
            {"input": "frames", "bidirectional": True, "dense": (7, 6)},
            {"input": "time_mean", "bidirectional": False, "lstm_relu": True, "dense": ()},
        )
        for pooling in POOLINGS
    ),
    network_settings(input="frames", bidirectional=False, lstm_relu=True, lstm=(6, 4)),
    network_settings(input="time_mean", bidirectional=True, lstm=(6, 4)),
    *(network_settings(lstm=(6, 4), stack=stack) for stack in (2, 3, 5)),
    network_settings(lstm=(6, 4), members=3, batch_norm=True),
    network_settings(lstm=(6, 4), pooling="attention", stack=2, members=2),
]


def sounds() -> tuple[np.ndarray, np.ndarray]:
    """Return four padded sequences, one of a single frame, and their lengths."""
    lengths = np.array([12, 1, 7, 10], np.int32)
    frames = np.random.default_rng(0).standard_normal((4, 12, COEFFICIENTS)).astype(np.float32)
    for row, length in zip(frames, lengths, strict=True):
        row[length:] = 0
    return frames, lengths


def network(settings: NetworkSettings, *, statistics=STATISTICS, seed=1):
    """Return a network whose every weight, those of the batch norms too, is other than at the start."""
    built = models_network.build(settings, coefficients=COEFFICIENTS, labels=LABELS, statistics=statistics, seed=seed)
    rng = np.random.default_rng(seed)
    for layer in built.layers:
        if layer.weights and "dropout" not in layer.name:
            layer.set_weights([weight + rng.uniform(0, 0.3, weight.shape) for weight in layer.get_weights()])
    return built


@pytest.mark.parametrize(
    "settings", NETWORKS, ids=lambda one: f"{one.input}-{one.pooling}-{one.bidirectional}-{one.stack}-{one.members}"
)
def test_onnx_agrees_with_keras(settings: NetworkSettings, tmp_path: Path) -> None:
    frames, lengths = sounds()
    built = network(settings)

    onnx_export.write_graph(tmp_path / "g.onnx", settings, onnx_export.layer_weights(built), coefficients=COEFFICIENTS)

    inputs = {"frames": frames, "lengths": lengths}
    (logits,) = onnxruntime.InferenceSession(tmp_path / "g.onnx").run(["logits"], inputs)
    expected = np.asarray(built([frames, lengths]))
    np.testing.assert_allclose(logits, expected.mean(axis=1) if settings.members > 1 else expected, atol=1e-5)


@pytest.mark.parametrize("settings", [*NETWORKS[:4], *NETWORKS[-4:]], ids=lambda one: f"{one.pooling}-{one.stack}")
def test_padding_changes_nothing(settings: NetworkSettings) -> None:
    frames, lengths = sounds()
    built = network(settings)

    together = np.asarray(built([frames, lengths]))

    for row, length, expected in zip(frames, lengths, together, strict=True):
        alone = built([row[None, :length], np.array([length], np.int32)])
        np.testing.assert_allclose(np.asarray(alone)[0], expected, atol=1e-5)


def test_save_and_load(tmp_path: Path) -> None:
    frames, lengths = sounds()
    built = network(NETWORKS[0])
    models_network.save(built, tmp_path)

    again = models_network.load(tmp_path)

    np.testing.assert_array_equal(again([frames, lengths]), built([frames, lengths]))


def test_reference_preset_is_the_published_network(root: Path) -> None:
    section = read_params(root / "presets" / "reference.yaml")["train"]
    train = parse_section("train", TrainSettings, {"seed": 0, **section})

    built = models_network.build(train.network, coefficients=40, labels=7, statistics=None)

    kinds = [type(layer).__name__ for layer in built.layers if layer.name.startswith(("lstm", "dense", "logits"))]
    head = ["Dense", "Dropout", "BatchNormalization"]
    assert kinds == ["LSTM", "ReLU", "Dropout", "LSTM", "ReLU", "Dropout", *head, *head, "Dense"]
    assert [layer.units for layer in built.layers if hasattr(layer, "units")] == [128, 128, 32, 64, 7]
    assert (train.epochs, train.batch_size, train.optimizer.learning_rate) == (33, 32, 0.001)
