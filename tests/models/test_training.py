import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from helpers.examples import clusters, network_settings, train_settings
from speech_emotion.config.training import EarlyStoppingSettings, OptimizerSettings, TrainSettings
from speech_emotion.core.errors import UserError
from speech_emotion.features.frames import StoredFrames
from speech_emotion.models.training import (
    Epoch,
    Part,
    Trained,
    batches,
    learning_rate,
    pad,
    predict_logits,
    train,
    training_digest,
    unweighted_recall,
)


def fit(settings: TrainSettings, scratch: Path, on_epoch=lambda row: None, count: int = 60) -> Trained:
    scratch.mkdir(exist_ok=True)
    training, validation = (Part(*clusters(size, seed=seed)) for size, seed in ((count, 0), (15, 1)))
    return train(settings, training=training, validation=validation, labels=3, scratch=scratch, on_epoch=on_epoch)


def fingerprint(trained: Trained) -> str:
    return hashlib.sha256(b"".join(np.asarray(one).tobytes() for one in trained.network.get_weights())).hexdigest()


def test_an_easy_task_is_learned_and_every_epoch_reported(tmp_path: Path) -> None:
    seen: list[Epoch] = []

    trained = fit(train_settings(epochs=6), tmp_path, seen.append)

    assert [row.epoch for row in seen] == [1, 2, 3, 4, 5, 6]
    assert tuple(seen) == trained.history
    assert trained.history[-1].val_uar == 1.0
    assert trained.history[-1].loss < trained.history[0].loss


def test_the_unweighted_recall_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, heard = rng.choice([0, 1, 3], (2, 200), p=[0.6, 0.3, 0.1])

    assert unweighted_recall(truth, heard) == pytest.approx(balanced_accuracy_score(truth, heard), abs=1e-12)


def test_keras_comes_without_what_it_does_not_need_and_leaves_it_to_others() -> None:
    script = (
        "import sys, gc; import speech_emotion.models.backend; "
        "print('sklearn' in sys.modules, 'matplotlib' in sys.modules, gc.isenabled()); import sklearn.svm, matplotlib"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert done.stdout.split() == ["False", "False", "True"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_gives_others(tmp_path: Path) -> None:
    prints = [fingerprint(fit(train_settings(seed=seed), tmp_path / str(n))) for n, seed in enumerate([1, 1, 2])]

    assert prints[0] == prints[1] != prints[2]


@pytest.mark.slow
def test_frames_that_lie_in_a_file_give_the_same_bits_as_those_in_memory(tmp_path: Path) -> None:
    held = Part(*clusters(60, seed=0), copies=(clusters(60, seed=3)[0],))
    stored = Part(StoredFrames(held.frames, tmp_path), held.labels, (StoredFrames(held.copies[0], tmp_path),))

    prints = set()
    for name, training in (("held", held), ("stored", stored)):
        (tmp_path / name).mkdir()
        validation = Part(*clusters(15, seed=1))
        prints.add(
            fingerprint(
                train(
                    train_settings(epochs=2, normalization="corpus"),
                    training=training,
                    validation=validation,
                    labels=3,
                    scratch=tmp_path / name,
                    on_epoch=lambda row: None,
                )
            )
        )

    assert len(prints) == 1


@pytest.mark.slow
def test_the_members_of_a_model_are_what_each_seed_alone_gives(tmp_path: Path) -> None:
    several = fit(train_settings(epochs=2, seed=5, members=2), tmp_path / "several")

    alone = [fit(train_settings(epochs=2, seed=seed), tmp_path / str(seed)) for seed in (5, 6)]

    frames, _ = clusters(15, seed=1)
    expected = np.mean([predict_logits(one.network, frames) for one in alone], axis=0)
    np.testing.assert_allclose(predict_logits(several.network, frames), expected, atol=1e-5)
    losses = [[row.loss for row in one.history] for one in alone]
    assert [row.loss for row in several.history] == pytest.approx(np.mean(losses, axis=0))


STOPPING = EarlyStoppingSettings(monitor="val_loss", patience=5)


@pytest.mark.parametrize(
    ("members", "stopping"),
    [
        (1, STOPPING),
        pytest.param(1, None, marks=pytest.mark.slow),
        pytest.param(2, STOPPING, marks=pytest.mark.slow),
        pytest.param(2, None, marks=pytest.mark.slow),
    ],
)
def test_a_training_that_was_cut_off_goes_on_to_the_same_bits(tmp_path: Path, members: int, stopping) -> None:
    settings = train_settings(epochs=4, early_stopping=stopping, members=members)
    whole = fit(settings, tmp_path / "whole")

    class CutError(Exception):
        pass

    def cut_after_two(row: Epoch) -> None:
        if row.epoch == 2:
            raise CutError

    with pytest.raises(CutError):
        fit(settings, tmp_path / "cut", cut_after_two)
    resumed = fit(settings, tmp_path / "cut")

    assert fingerprint(resumed) == fingerprint(whole)
    assert resumed.history == whole.history


@pytest.mark.slow
def test_on_several_devices_a_batch_is_divided_and_the_result_is_the_same(tmp_path: Path) -> None:
    # devices can be made of a CPU only before it is first used
    program = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from speech_emotion.models.backend import tensorflow
cpu = tensorflow.config.list_physical_devices("CPU")[0]
tensorflow.config.set_logical_device_configuration(cpu, [tensorflow.config.LogicalDeviceConfiguration()] * 2)
import numpy as np
from helpers.examples import clusters, network_settings, train_settings
from speech_emotion.models.training import Part, predict_logits, train

def fit(name, devices, **changes):
    settings = train_settings(network=network_settings(dropout={"lstm": 0.0, "dense": 0.0}), **changes)
    training, validation = Part(*clusters(61, seed=0)), Part(*clusters(15, seed=1))
    folder = Path(sys.argv[2]) / name
    folder.mkdir(exist_ok=True)
    trained = train(settings, training=training, validation=validation, labels=3, scratch=folder,
                    on_epoch=lambda row: None, devices=devices)
    return predict_logits(trained.network, validation.frames), trained.history

one, two = fit("one", None), fit("two", ["CPU:0", "CPU:1"])
np.testing.assert_allclose(two[0], one[0], atol=1e-4)
np.testing.assert_allclose([row.loss for row in two[1]], [row.loss for row in one[1]], atol=1e-4)
assert [row.accuracy for row in two[1]] == [row.accuracy for row in one[1]]
# what is finished is read and not trained again
np.testing.assert_array_equal(fit("two", ["CPU:0", "CPU:1"])[0], two[0])
several = fit("several", ["CPU:0", "CPU:1"], members=2, epochs=1)
np.testing.assert_allclose(several[0], fit("alone", None, members=2, epochs=1)[0], atol=1e-4)
"""
    tests = str(Path(__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", program, tests, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    first = fit(train_settings(), tmp_path)
    again = fit(train_settings(), tmp_path, count=3)  # other data: one more step on it would change the weights

    assert again.history == first.history


def test_early_stopping_keeps_the_best_epochs_weights(tmp_path: Path) -> None:
    # a rate that climbs until it breaks what was learned
    optimizer = OptimizerSettings(
        learning_rate=5.0, momentum=0.9, nesterov=False, schedule="one_cycle", clip_norm=1.0, weight_decay=0.0
    )
    stopping = EarlyStoppingSettings(monitor="val_uar", patience=3)

    trained = fit(train_settings(epochs=30, optimizer=optimizer, early_stopping=stopping), tmp_path)

    values = [row.val_uar for row in trained.history]
    assert len(values) == trained.best_epoch + 3 < 30
    assert values[trained.best_epoch - 1] == max(values)
    frames, truth = clusters(15, seed=1)
    assert (predict_logits(trained.network, frames).argmax(axis=1) == truth).mean() == max(values)


def test_a_loss_that_is_no_number_stops_with_what_to_change(tmp_path: Path) -> None:
    optimizer = OptimizerSettings(
        learning_rate=10.0, momentum=0.99, nesterov=False, schedule="constant", clip_norm=None, weight_decay=0.0
    )
    frames, truth = clusters(30)
    broken = Part([np.full_like(one, np.nan) for one in frames], truth)

    with pytest.raises(UserError, match=r"no longer a number in epoch 1. Lower train.optimizer.learning_rate \(10\)"):
        train(
            train_settings(
                optimizer=optimizer,
                normalization="none",
                network=network_settings(dense=()),
            ),
            training=broken,
            validation=Part(*clusters(6)),
            labels=3,
            scratch=tmp_path,
            on_epoch=lambda row: None,
        )


def test_an_epoch_takes_every_utterance_once_and_pads_little() -> None:
    lengths = np.random.default_rng(0).integers(50, 150, 1000)

    made = list(batches(lengths, 32, seed=1, epoch=0))

    assert sorted(np.concatenate(made)) == list(range(1000))
    padded = sum(len(batch) * lengths[batch].max() for batch in made)
    assert padded / lengths.sum() < 1.1


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = np.arange(100)
    orders = [
        np.concatenate(list(batches(lengths, 8, seed=s, epoch=e))).tolist() for s, e in [(1, 0), (1, 0), (1, 1), (2, 0)]
    ]

    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3


def test_padding_is_zero_and_counted() -> None:
    padded, lengths = pad([np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)])

    assert padded.shape == (2, 4, 3)
    assert lengths.tolist() == [2, 4]
    assert padded.sum() == 6 * 3


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1, 1, 1, 1]), ("cosine", [1, 0.79389, 0.5, 0]), ("one_cycle", [0.04, 1, 0.81174, 0])],
)
def test_learning_rates(schedule: str, expected: list[float]) -> None:
    settings = OptimizerSettings(
        learning_rate=1.0, momentum=0.0, nesterov=False, schedule=schedule, clip_norm=None, weight_decay=0.0
    )

    rates = [learning_rate(settings, step=step, steps=10) for step in (0, 3, 5, 10)]

    np.testing.assert_allclose(rates, expected, atol=1e-4)


def test_the_digest_changes_with_all_that_decides_the_weights() -> None:
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
def test_a_process_with_one_core_trains_the_same_bits_as_one_with_all(tmp_path: Path) -> None:
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[3])])\n"
        "from pathlib import Path\n"
        "from models.test_training import fit, fingerprint, network_settings, train_settings\n"
        # wide enough for its products to be shared among threads, if there are several
        "network = network_settings(lstm=(128,), bidirectional=True, dense=(64,))\n"
        "settings = train_settings(batch_size=64, epochs=1, network=network)\n"
        "print(fingerprint(fit(settings, Path(sys.argv[2]), count=256)))"
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
