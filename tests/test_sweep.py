"""A parameter's values in order of what pseudo-speakers say of them, and that params.yaml has what they prefer."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib import image

from examples import train_settings
from speech_emotion import sweep
from speech_emotion.errors import UserError
from speech_emotion.settings.base import read_section
from speech_emotion.settings.sweep import SweepSettings
from speech_emotion.settings.train import TrainSettings
from speech_emotion.sweep import Candidate, Heard, ahead, candidates, chosen
from speech_emotion.tuning.space import Space

CEPSTRA = "train.inputs.n_mfcc"
NINE, ALL, FORTY = (Candidate(CEPSTRA, value) for value in (9, None, 40))
FOUND = [
    Heard(NINE, 1, "A", 0.5, 1.0),
    Heard(NINE, 1, "B", 0.7, 0.9),
    Heard(ALL, 1, "A", 0.8, 1.0),
    Heard(ALL, 1, "B", 0.6, 1.0),
    Heard(FORTY, 1, "A", 0.6, 1.0),
    Heard(FORTY, 1, "B", 0.8, 1.0),
]


def asked(seeds: tuple[int, ...] = (1,), **values: Any) -> SweepSettings:
    return SweepSettings(
        values={f"train.{name.replace('__', '.')}": tuple(of) for name, of in values.items()}, seeds=seeds
    )


def test_one_parameter_changes_and_no_other() -> None:
    changed = Space({}, train_settings()).settings({"train.optimizer.momentum": 0.5})

    assert changed.optimizer.momentum == 0.5
    assert changed.model_copy(update={"optimizer": train_settings().optimizer}) == train_settings()


def test_the_present_value_of_one_parameter_is_always_tried() -> None:
    name = "train.optimizer.momentum"
    present = Candidate(name, train_settings().optimizer.momentum)

    assert present.value == 0.9
    assert candidates(train_settings(), asked(optimizer__momentum=[0.1, 0.9])) == (
        present,
        [Candidate(name, 0.1), present],
    )
    assert candidates(train_settings(), asked(optimizer__momentum=[0.1])) == (present, [present, Candidate(name, 0.1)])
    race = SweepSettings(values={name: (0.1, 0.9)}, seeds=(1, 2), leave_behind=True)
    assert candidates(train_settings(), race) == (Candidate(""), [Candidate(""), Candidate(name, 0.1)])


def test_of_several_parameters_each_is_changed_alone_and_the_present_settings_are_trained_once() -> None:
    present, trained = candidates(
        train_settings(),
        asked(optimizer__momentum=[0.1, 0.9], network__lstm=[[3], list(train_settings().network.lstm)]),
    )

    assert present.changes == {}
    assert [one.changes for one in trained] == [{}, {"train.optimizer.momentum": 0.1}, {"train.network.lstm": [3]}]
    assert [str(one) for one in trained[1:]] == ["train.optimizer.momentum = 0.1", "train.network.lstm = [3]"]


@pytest.mark.parametrize("name", ["train.momentum", "train.optimizer.momentums", "train.epochs.more", "train.no.such"])
def test_a_parameter_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(UserError, match=rf"params\.yaml has no '{name}'"):
        candidates(train_settings(), SweepSettings(values={name: (1, 2)}, seeds=(1,)))


def test_a_value_that_the_training_refuses_is_named() -> None:
    with pytest.raises(UserError, match=r"train\.epochs: found 0"):
        Space({}, train_settings()).settings({"train.seed": 3, "train.epochs": 0})


@pytest.mark.parametrize(
    "text",
    [
        "{values: {tune.trials: [1, 2]}, seeds: [1]}",
        "{values: {train.epochs: []}, seeds: [1]}",
        "{values: {train.epochs: 3}, seeds: [1]}",
        "{values: {train.epochs: {3: 4}}, seeds: [1]}",
        "{values: {}, seeds: [1]}",
        "{values: [train.epochs], seeds: [1]}",
        "{values: 3, seeds: [1]}",
        "{values: null, seeds: [1]}",
        "{values: {train.epochs: [3, 3]}, seeds: [1]}",
        "{values: {train.epochs: [3, 4]}, seeds: [1, 1]}",
        "{values: {train.epochs: [3, 4]}, seeds: []}",
    ],
)
def test_a_sweep_of_nothing_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"sweep: {text}\n")
    with pytest.raises(UserError, match="sweep"):
        read_section("sweep", SweepSettings, file)


def test_a_value_that_is_ahead_from_every_seed_takes_the_place_of_the_present_one() -> None:
    both = [one for seed in (1, 2) for one in (Heard(NINE, seed, "A", 0.5, 1.0), Heard(ALL, seed, "A", 0.6, 1.0))]
    third = [Heard(FORTY, 1, "A", 0.9, 1.0), Heard(FORTY, 2, "A", 0.55, 1.0)]

    assert chosen(both, NINE) == ALL
    assert chosen([*both, *third], NINE) == FORTY
    assert ahead([*both, *third], NINE) == [FORTY, ALL]


def test_what_is_behind_from_one_seed_leaves_the_present_value_where_it_is() -> None:
    found = [Heard(NINE, 1, "A", 0.5, 1.0), Heard(NINE, 2, "A", 0.6, 1.0), Heard(ALL, 1, "A", 0.9, 1.0)]

    assert chosen([*found, Heard(ALL, 2, "A", 0.59, 1.0)], NINE) == NINE
    assert chosen([*found, Heard(ALL, 2, "A", 0.6, 1.0)], NINE) == NINE  # equal is not ahead


def test_what_was_not_trained_from_every_seed_is_not_chosen() -> None:
    found = [Heard(NINE, 1, "A", 0.5, 1.0), Heard(NINE, 2, "A", 0.6, 1.0), Heard(ALL, 1, "A", 0.9, 1.0)]

    assert chosen(found, NINE) == NINE


def test_seeds_are_averaged_and_shown(tmp_path: Path) -> None:
    other = [replace(one, seed=2, uar=round(one.uar - 0.1, 2)) for one in FOUND]

    sweep.write([*FOUND, *other], tmp_path / "cepstra", present=NINE, corpus="x")

    assert "| 40 | 0.550 | 0.750 | 0.650 (0.600 to 0.700) | 1.000 |" in (tmp_path / "cepstra/table.md").read_text()


def test_what_was_heard_of_one_parameter_is_a_table_a_picture_and_a_choice(tmp_path: Path) -> None:
    target = tmp_path / "cepstra"

    sweep.write(FOUND, target, present=NINE, corpus="tiny")

    assert json.loads((target / "chosen.json").read_text()) == {CEPSTRA: None}
    assert len(pd.read_csv(target / "scores.csv")) == 6
    assert "| null | 0.800 | 0.600 | 0.700 | 1.000 |" in (target / "table.md").read_text()
    assert image.imread(target / "plot.png").std() > 0.05


def test_what_was_heard_of_several_parameters_is_told_against_the_present_settings(tmp_path: Path) -> None:
    target = tmp_path / "recipe"
    present, rate, lstm = (
        Candidate(""),
        Candidate("train.optimizer.momentum", 0.5),
        Candidate("train.network.lstm", [3]),
    )
    found = [Heard(present, 1, "A", 0.5, 1.0), Heard(lstm, 1, "A", 0.45, 0.8), Heard(rate, 1, "A", 0.75, 1.0)]
    found += [Heard(present, 2, "A", 0.6, 1.0), Heard(rate, 2, "A", 0.61, 0.9)]

    sweep.write(found, target, present=present, corpus="tiny")

    assert json.loads((target / "chosen.json").read_text()) == {"train.optimizer.momentum": 0.5}
    assert (target / "table.md").read_text().splitlines() == [
        "| setting | seed 1 | seed 2 | same voices, mean |",
        "|---|---|---|---|",
        "| `params.yaml` | 0.500 | 0.600 | 1.000 |",
        "| `train.optimizer.momentum = 0.5` | +0.250 | +0.010 | 0.950 |",
        "| `train.network.lstm = [3]` | -0.050 |  | 0.800 |",
    ]
    assert image.imread(target / "plot.png").std() > 0.05

    sweep.write(found[:-1], target, present=present, corpus="tiny")

    assert json.loads((target / "chosen.json").read_text()) == {}


@pytest.mark.parametrize("name", ["cepstra", "recipe"])
def test_params_has_what_pseudo_speakers_prefer(root: Path, name: str) -> None:
    folder = root / "reports" / "tess" / f"sweep_{name}"
    rows = pd.read_csv(folder / "scores.csv", dtype={"value": str}, keep_default_na=False)
    asked = read_section(name, SweepSettings, root / "studies" / "sweeps" / "params.yaml")
    train = read_section("train", TrainSettings, root / "params.yaml")
    present, trained = candidates(train, asked)

    assert set(rows["fold"]) == {"OAF", "YAF"}
    assert train.seed == asked.seeds[0]
    means = rows.groupby(["parameter", "value", "seed"])["uar"].agg(["mean", "size"])
    assert set(means["size"]) == {2}
    by_seed = means["mean"].unstack("seed")
    left = {one.columns for one in trained}
    for seed in asked.seeds:
        assert set(by_seed.index[by_seed[seed].notna()] if seed in by_seed else []) == left
        better = {columns for columns in left if by_seed.loc[columns, seed] > by_seed.loc[present.columns, seed]}
        left = {present.columns, *better} if asked.leave_behind else left
        if left == {present.columns}:
            break
    assert json.loads((folder / "chosen.json").read_text()) == {}, "params.yaml is to have what pseudo-speakers prefer"
    ahead = by_seed[(by_seed > by_seed.loc[present.columns]).all(axis=1)]
    assert ahead.empty
