import json
from pathlib import Path

import numpy as np
import pytest

from helpers.examples import network_settings
from speech_emotion.core.errors import UserError
from speech_emotion.inference.summary import read_layers
from speech_emotion.models import network as models_network

SHAPES = [
    {},
    {"lstm": (8, 4), "bidirectional": False, "pooling": "last", "lstm_relu": True, "batch_norm": True},
    {"input": "time_mean", "pooling": "max", "dense": ()},
    {"pooling": "mean", "dense": (6, 5)},
]


@pytest.mark.parametrize("changes", SHAPES, ids=["default", "reference", "time_mean", "two dense"])
def test_layers_agree_with_keras(tmp_path: Path, changes: dict) -> None:
    statistics = (np.zeros(5, np.float32), np.ones(5, np.float32))
    network = models_network.build(network_settings(**changes), coefficients=5, labels=3, statistics=statistics)
    models_network.save(network, tmp_path)

    layers = read_layers(tmp_path)

    trained = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert sum(layer.parameters for layer in layers) == trained
    assert (layers[0].kind, layers[0].width) == ("frames", 5)
    assert (layers[-1].kind, layers[-1].width, layers[-1].steps) == ("output", 3, False)


def test_damaged_architecture(tmp_path: Path) -> None:
    for text in ("{", "{}", json.dumps({"config": {"layers": [{"class_name": "Dense"}]}})):
        (tmp_path / "architecture.json").write_text(text)
        with pytest.raises(UserError, match=r"architecture\.json: missing or damaged"):
            read_layers(tmp_path)
