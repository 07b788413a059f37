from typing import Any

import optuna
import pytest

from helpers import tuned
from helpers.examples import network_settings, train_settings
from speech_emotion.core.errors import UserError
from speech_emotion.tuning.space import Space

TRAIN = train_settings(network=network_settings(lstm=(8, 8), dense=()))


def space(dimensions: dict[str, Any]) -> Space:
    return Space(tuned.tune_settings(space=dimensions).dimensions, TRAIN)


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ({"train.network.lsm": {"choices": [1]}}, "'train.network.lsm'. Did you mean 'train.network.lstm'"),
        ({"train.epochs": {"low": 1, "high": 2}}, "except epochs, found 'train.epochs'"),
        ({"train.batch_size": {"low": 1}}, "train.batch_size: either `choices`, or `low` and `high`"),
        ({"train.batch_size": {"low": 9, "high": 2}}, r"a low \(9\) below high \(2\)"),
        ({"train.batch_size": {"low": 0, "high": 2, "log": True}}, "with `log`, a low above 0"),
        ({"train.batch_size": {"choices": [1], "hi": 2}}, r"train\.batch_size\.hi"),
        ({}, "at least one training parameter"),
    ],
)
def test_mistake_in_space_is_named(dimensions: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tuned.tune_settings(space=dimensions)


def test_suggestions_become_settings() -> None:
    searched = space(
        {
            "train.network.lstm": {"choices": [[8], [8, 8], [16, 16]]},
            "train.network.dense": {"choices": [[], [32, 16]]},
            "train.batch_size": {"low": 8, "high": 64, "step": 8},
            "train.optimizer.learning_rate": {"low": 0.01, "high": 0.5, "log": True},
        }
    )
    names = [f"train.{name}" for name in ("network.lstm", "network.dense", "batch_size", "optimizer.learning_rate")]
    trial = optuna.trial.FixedTrial(dict(zip(names, ("[16, 16]", "[32, 16]", 24, 0.25), strict=True)))

    settings = searched.settings(searched.suggest(trial))

    assert (settings.network.lstm, settings.network.dense) == ((16, 16), (32, 16))
    assert (settings.batch_size, settings.optimizer.learning_rate) == (24, 0.25)
    assert settings.network.pooling == TRAIN.network.pooling
    assert list(searched.current().values()) == ["[8, 8]", "[]", TRAIN.batch_size, TRAIN.optimizer.learning_rate]
    assert searched.settings(searched.values(searched.current())) == TRAIN


CURRENT = "does not contain the current value"


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ({"train.network.lstm": {"choices": [[8]]}}, CURRENT),
        ({"train.network.pooling": {"choices": ["max", "last"]}}, CURRENT),
        ({"train.optimizer.momentum": {"low": 0.1, "high": 0.5}}, CURRENT),
        ({"train.optimizer.momentum": {"low": 0.0, "high": 0.96, "step": 0.04}}, CURRENT),
        ({"train.network.pooling": {"choices": ["max", "median"]}}, 'pooling: train does not accept "median"'),
        ({"train.early_stopping.patience": {"low": 1, "high": 5}}, "cannot be searched while train.early_stopping is"),
    ],
)
def test_space_that_training_refuses(dimensions: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        space(dimensions)
