"""Training: learns, resumes to the same weights, stops early; the weights depend on nothing else."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.examples import clusters, featurize_settings, network_settings, train_settings
from speech_emotion.config.features import PerturbSettings, ReferenceSettings
from speech_emotion.config.training import EarlyStoppingSettings, OptimizerSettings, TrainSettings
from speech_emotion.core.errors import UserError
from speech_emotion.features.enrolment import References
from speech_emotion.features.frames import StoredFrames
from speech_emotion.models.training import (
    Epoch,
    Part,
    Trained,
    batches,
    predict_logits,
    schedule,
    train,
    training_digest,
)

VALIDATION = Part(*clusters(15, seed=1))


def fit(
    settings: TrainSettings,
    scratch: Path,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
    training: Part | None = None,
) -> Trained:
    scratch.mkdir(exist_ok=True)
    training = training or Part(*clusters(60))
    return train(settings, training=training, validation=VALIDATION, labels=3, scratch=scratch, on_epoch=on_epoch)


def sgd(**changes: Any) -> OptimizerSettings:
    values = {"learning_rate": 1.0, "momentum": 0.9, "nesterov": False, "schedule": "constant", "clip_norm": None}
    return OptimizerSettings(**{**values, "weight_decay": 0.0, **changes})


def fingerprint(trained: Trained) -> str:
    return hashlib.sha256(b"".join(np.asarray(one).tobytes() for one in trained.network.get_weights())).hexdigest()


def test_easy_task_is_learned(tmp_path: Path) -> None:
    seen: list[Epoch] = []

    trained = fit(train_settings(epochs=6, network=network_settings(members=2)), tmp_path, seen.append)

    assert predict_logits(trained.network, VALIDATION.frames).shape == (15, 3)
    assert [row.epoch for row in seen] == [1, 2, 3, 4, 5, 6]
    assert tuple(seen) == trained.history
    assert trained.history[-1].val_uar == 1.0
    assert trained.history[-1].loss < trained.history[0].loss


class CutError(Exception):
    """Stands for a kill that this process survives."""


def cut_after(epoch: int) -> Callable[[Epoch], None]:
    def cut(row: Epoch) -> None:
        if row.epoch == epoch:
            raise CutError

    return cut


@pytest.mark.slow
def test_resume_is_bit_identical(tmp_path: Path) -> None:
    """With frames in memory or in a file."""
    held = Part(*clusters(60, seed=0), copies=(clusters(60, seed=3)[0],))
    stored = Part(StoredFrames(held.frames, tmp_path), held.labels, (StoredFrames(held.copies[0], tmp_path),))
    settings = train_settings(epochs=4, early_stopping=EarlyStoppingSettings(patience=5))
    whole = fit(settings, tmp_path / "whole", training=held)

    with pytest.raises(CutError):
        fit(settings, tmp_path / "cut", cut_after(2), training=stored)
    resumed = fit(settings, tmp_path / "cut", training=stored)

    assert fingerprint(resumed) == fingerprint(whole)
    assert resumed.history == whole.history
    # a finished training is reused: one step on other data would change the weights
    assert fit(settings, tmp_path / "cut", training=Part(*clusters(3))).history == whole.history


@pytest.mark.slow
def test_resume_with_references_and_perturbation_is_bit_identical(tmp_path: Path) -> None:
    frames, truth = clusters(60)
    speakers, neutral = np.array(["A", "B", "C"] * 20), truth == 0
    training = Part(
        frames,
        truth,
        weights=np.linspace(0.5, 1.5, 60),
        references=References.of([frames], speakers, neutral),
        features=featurize_settings(n_mfcc=frames[0].shape[1], c0=True, prosody=False),
    )
    settings = train_settings(
        epochs=2,
        references=ReferenceSettings(none=0.3, neutral=0.3, most=8),
        perturb=PerturbSettings(share=0.8, warp=0.1, f0_semitones=0, gain_db=1, tilt_db=0, tempo=0.2),
    )
    whole = fit(settings, tmp_path / "whole", training=training)

    with pytest.raises(CutError):
        fit(settings, tmp_path / "cut", cut_after(1), training=training)

    assert fingerprint(fit(settings, tmp_path / "cut", training=training)) == fingerprint(whole)
    for name in ("references", "perturb"):
        without = fit(settings.model_copy(update={name: None}), tmp_path / name, training=training)
        assert fingerprint(without) != fingerprint(whole)


@pytest.mark.slow
def test_early_stopping_keeps_the_best_weights(tmp_path: Path) -> None:
    # a rate that climbs until it breaks what was learned
    optimizer = sgd(learning_rate=5.0, schedule="one_cycle", clip_norm=1.0)
    stopping = EarlyStoppingSettings(patience=3)

    trained = fit(train_settings(epochs=30, optimizer=optimizer, early_stopping=stopping), tmp_path)

    losses = [row.val_loss for row in trained.history]
    assert len(losses) == trained.best_epoch + 3 < 30
    assert losses[trained.best_epoch - 1] == min(losses)
    kept = predict_logits(trained.network, VALIDATION.frames).argmax(axis=1) == VALIDATION.labels
    assert kept.mean() == trained.history[trained.best_epoch - 1].val_accuracy


@pytest.mark.slow
def test_nan_loss_is_one_message(tmp_path: Path) -> None:
    frames, truth = clusters(30)
    broken = Part([np.full_like(one, np.nan) for one in frames], truth)
    linear = network_settings(dense=())
    settings = train_settings(optimizer=sgd(learning_rate=10.0), normalization="none", network=linear)

    with pytest.raises(UserError, match=r"loss became NaN in epoch 1. Lower train.optimizer.learning_rate \(10\)"):
        fit(settings, tmp_path, training=broken)


def test_epoch_has_every_utterance_once() -> None:
    lengths = np.random.default_rng(0).integers(50, 150, 1000)

    made = list(batches(lengths, 32, seed=1, epoch=0))

    assert sorted(np.concatenate(made)) == list(range(1000))
    others = [batches(lengths, 32, seed=seed, epoch=epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0))]
    assert [np.array_equal(np.concatenate(list(one)), np.concatenate(made)) for one in others] == [True, False, False]
    padded = sum(len(batch) * lengths[batch].max() for batch in made)
    assert padded / lengths.sum() < 1.1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("constant", [1, 1, 1, 1]), ("cosine", [1, 0.79389, 0.5, 0]), ("one_cycle", [0.04, 1, 0.81174, 0])],
)
def test_learning_rates(name: str, expected: list[float]) -> None:
    made = schedule(sgd(schedule=name), steps=10)

    rates = [made if isinstance(made, float) else float(made(step)) for step in (0, 3, 5, 10)]
    np.testing.assert_allclose(rates, expected, atol=1e-4)


def test_digest_depends_on_settings_and_data() -> None:
    base = {"features": "f", "train": [("a", "sad"), ("b", "happy")], "validation": [("c", "sad")]}
    digests = {
        training_digest(train_settings(), **base),
        training_digest(train_settings(epochs=4), **base),
        training_digest(train_settings(), **{**base, "features": "g"}),
        training_digest(train_settings(), **{**base, "train": [("a", "sad")]}),
        training_digest(train_settings(), **{**base, "train": [("a", "happy"), ("b", "sad")]}),
        training_digest(train_settings(), **{**base, "validation": [("d", "sad")]}),
    }

    assert len(digests) == 6


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not confine a process to a core")
def test_weights_do_not_depend_on_the_number_of_cores(tmp_path: Path) -> None:
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[3])])\n"
        "from pathlib import Path\n"
        "from models.test_training import *\n"
        # wide enough for its products to be shared among threads, if there are several
        "network = network_settings(lstm=(128,), bidirectional=True, dense=(64,))\n"
        "settings = train_settings(batch_size=64, epochs=1, network=network)\n"
        "print(fingerprint(fit(settings, Path(sys.argv[2]), training=Part(*clusters(128)))))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script, str(Path(__file__).parent.parent), str(tmp_path / cores), cores],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for cores in ("1", "64")
    ]

    assert outputs[0] == outputs[1]
