"""A parameter's values in order of what pseudo-speakers say of them, and that params.yaml has the one they prefer."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import image

from examples import train_settings
from speech_emotion import sweep
from speech_emotion.errors import UserError
from speech_emotion.settings.base import read_section
from speech_emotion.settings.sweep import SweepSettings
from speech_emotion.settings.train import TrainSettings
from speech_emotion.sweep import Heard, present_value
from speech_emotion.tuning.space import Space

FOUND = [
    Heard(9, 1, "A", 0.5, 1.0),
    Heard(9, 1, "B", 0.7, 0.9),
    Heard(None, 1, "A", 0.8, 1.0),
    Heard(None, 1, "B", 0.6, 1.0),
    Heard(40, 1, "A", 0.6, 1.0),
    Heard(40, 1, "B", 0.8, 1.0),
]


def test_one_parameter_changes_and_no_other() -> None:
    changed = Space({}, train_settings()).settings({"train.optimizer.momentum": 0.5})

    assert changed.optimizer.momentum == 0.5
    assert changed.model_copy(update={"optimizer": train_settings().optimizer}) == train_settings()


def test_the_present_value_is_read_by_its_name() -> None:
    asked = SweepSettings(parameter="train.optimizer.momentum", values=(0.1, 0.9), seeds=(1,))

    assert present_value(train_settings(), asked) == train_settings().optimizer.momentum == 0.9


@pytest.mark.parametrize("name", ["train.momentum", "train.optimizer.momentums", "train.epochs.more", "train.no.such"])
def test_a_parameter_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(UserError, match=rf"params\.yaml has no '{name}'"):
        present_value(train_settings(), SweepSettings(parameter=name, values=(1, 2), seeds=(1,)))


def test_a_present_value_that_is_not_tried_is_an_error_before_anything_is_trained() -> None:
    asked = SweepSettings(parameter="train.optimizer.momentum", values=(0.1, 0.2), seeds=(1,))

    with pytest.raises(UserError, match=r"does not try 0\.9, the value of params\.yaml"):
        present_value(train_settings(), asked)


def test_a_value_that_the_training_refuses_is_named() -> None:
    with pytest.raises(UserError, match=r"train\.epochs: found 0"):
        Space({}, train_settings()).settings({"train.seed": 3, "train.epochs": 0})


@pytest.mark.parametrize(
    "text",
    [
        "{parameter: tune.trials, values: [1, 2], seeds: [1]}",
        "{parameter: train.epochs, values: [3], seeds: [1]}",
        "{parameter: train.epochs, values: [3, 3], seeds: [1]}",
        "{parameter: train.epochs, values: [3, 4], seeds: [1, 1]}",
        "{parameter: train.epochs, values: [3, 4], seeds: []}",
    ],
)
def test_a_sweep_of_nothing_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"sweep: {text}\n")
    with pytest.raises(UserError, match="sweep"):
        read_section("sweep", SweepSettings, file)


def test_a_value_that_is_ahead_from_every_seed_takes_the_place_of_the_present_one() -> None:
    both = [one for seed in (1, 2) for one in (Heard(9, seed, "A", 0.5, 1.0), Heard(None, seed, "A", 0.6, 1.0))]

    assert sweep.chosen(both, 9) is None
    assert sweep.chosen([*both, Heard(40, 1, "A", 0.9, 1.0), Heard(40, 2, "A", 0.55, 1.0)], 9) == 40


def test_what_is_behind_from_one_seed_leaves_the_present_value_where_it_is() -> None:
    found = [Heard(9, 1, "A", 0.5, 1.0), Heard(9, 2, "A", 0.6, 1.0), Heard(11, 1, "A", 0.9, 1.0)]

    assert sweep.chosen([*found, Heard(11, 2, "A", 0.59, 1.0)], 9) == 9
    assert sweep.chosen([*found, Heard(11, 2, "A", 0.6, 1.0)], 9) == 9  # equal is not ahead


def test_seeds_are_averaged_and_shown(tmp_path: Path) -> None:
    other = [replace(one, seed=2, uar=round(one.uar - 0.1, 2)) for one in FOUND]
    target = tmp_path / "cepstra"

    sweep.write(
        [*FOUND, *other],
        SweepSettings(parameter="train.epochs", values=(9, None, 40), seeds=(1, 2)),
        target,
        best=9,
        corpus="x",
    )

    assert "| 40 | 0.550 | 0.750 | 0.650 (0.600 to 0.700) | 1.000 |" in (target / "table.md").read_text()


def test_what_was_heard_is_a_table_a_picture_and_a_choice(tmp_path: Path) -> None:
    target = tmp_path / "cepstra"

    sweep.write(
        FOUND,
        SweepSettings(parameter="train.inputs.n_mfcc", values=(9, None, 40), seeds=(1,)),
        target,
        best=None,
        corpus="tiny",
    )

    assert json.loads((target / "chosen.json").read_text()) == {"parameter": "train.inputs.n_mfcc", "value": None}
    assert len(pd.read_csv(target / "scores.csv")) == 6
    assert "| null | 0.800 | 0.600 | 0.700 | 1.000 |" in (target / "table.md").read_text()
    assert image.imread(target / "plot.png").std() > 0.05


@pytest.mark.parametrize("name", ["cepstra"])
def test_params_has_what_pseudo_speakers_prefer(root: Path, name: str) -> None:
    folder = root / "reports" / "tess" / f"sweep_{name}"
    rows = pd.read_csv(folder / "scores.csv", dtype={"value": str}, keep_default_na=False)
    asked = read_section(name, SweepSettings, root / "studies" / "sweeps" / "params.yaml")
    settings = read_section("train", TrainSettings, root / "params.yaml")

    assert list(rows["value"].unique()) == [json.dumps(value) for value in asked.values]
    assert set(rows["fold"]) == {"OAF", "YAF"}
    assert settings.seed in asked.seeds
    assert len(rows) == len(asked.values) * len(asked.seeds) * 2
    means = rows.groupby(["value", "seed"])["uar"].mean().unstack("seed")
    own = json.dumps(present_value(settings, asked))
    ahead = means[(means > means.loc[own]).all(axis=1)]
    best = json.loads(ahead.mean(axis=1).idxmax()) if len(ahead) else json.loads(own)
    assert json.loads((folder / "chosen.json").read_text()) == {"parameter": asked.parameter, "value": best}
    assert best == json.loads(own), "params.yaml is to have what pseudo-speakers clearly prefer"
