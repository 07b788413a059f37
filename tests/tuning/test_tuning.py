"""What is true of a study without training anything: its space, its counting, its seeds, its winner, its likeness."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.text import Text
from mlflow.entities import Run, ViewType
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from typer.testing import CliRunner

from helpers import tuned
from helpers.examples import network_settings, train_settings
from speech_emotion.cli import app
from speech_emotion.config.compute import ComputeSettings
from speech_emotion.config.tuning import parameter_names
from speech_emotion.core.errors import UserError
from speech_emotion.tracking import connection
from speech_emotion.tracking.event_log import process_name
from speech_emotion.tuning import plots
from speech_emotion.tuning.best_trial import FOUND_ON, Winner, apply, report_folder, table, write_tables, write_winner
from speech_emotion.tuning.mlflow_sync import Follower, best_so_far
from speech_emotion.tuning.objective import Ground, sample
from speech_emotion.tuning.plots import draw
from speech_emotion.tuning.search import _ctrl_c_waits, search
from speech_emotion.tuning.space import Space
from speech_emotion.tuning.study import (
    INTERRUPTED,
    NUMBER,
    PROCESS,
    REASON,
    Storage,
    best,
    create,
    distinct,
    finished,
    open_study,
    reason,
    release_the_dead,
    requeue,
    sampler,
    storage_of,
)
from speech_emotion.tuning.worker import own_devices

TRAIN = train_settings(network=network_settings(lstm=(8, 8), dense=()))
DEAD = f"{process_name().split(':')[0]}:999999999:1.00"
PARAMETERS = {
    "train.optimizer.learning_rate": 0.1,
    "train.optimizer.momentum": 0.9,
    "train.network.dropout.lstm": 0.2,
}
DISTRIBUTIONS = {
    "train.optimizer.learning_rate": FloatDistribution(0.01, 0.5, log=True),
    "train.optimizer.momentum": CategoricalDistribution([0.8, 0.9]),
    "train.network.dropout.lstm": FloatDistribution(0.0, 0.6, step=0.2),
}


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    """A search in the working folder, nothing of which has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tuned.make_ground(tmp_path)


@pytest.fixture
def study(ground: Ground) -> optuna.Study:
    return create("a-study", storage_of(ground.tune), ground.tune)


def space(dimensions: dict[str, Any]) -> Space:
    return Space(tuned.tune_settings(space=dimensions).dimensions, TRAIN)


def ended(state: TrialState = TrialState.COMPLETE, value: float | None = 0.5, **attributes: Any) -> Any:
    return create_trial(
        state=state,
        value=value if state is TrialState.COMPLETE else None,
        params={**PARAMETERS},
        distributions=DISTRIBUTIONS,
        user_attrs=attributes,
    )


def running(study: optuna.Study, process: str) -> optuna.Trial:
    trial = study.ask()
    trial.set_user_attr(PROCESS, process)
    trial.set_user_attr(NUMBER, trial.number)
    return trial


@pytest.mark.parametrize(
    ("dimensions", "said"),
    [
        ({"train.network.lsm": {"choices": [1]}}, "'train.network.lsm' is none .* the nearest is 'train.network.lstm'"),
        ({"train.epochs": {"low": 1, "high": 2}}, "'train.epochs' is none that can be searched"),
        ({"train.batch_size": {"low": 1}}, "train.batch_size: either `choices`, or `low` and `high`"),
        ({"train.batch_size": {"low": 9, "high": 2}}, r"a low \(9\) below high \(2\)"),
        ({"train.batch_size": {"low": 0, "high": 2, "log": True}}, "with `log`, a low above 0"),
        ({"train.batch_size": {"choices": [1], "hi": 2}}, r"train\.batch_size\.hi"),
        ({}, "one training parameter at least"),
    ],
)
def test_a_mistake_in_the_space_is_named(dimensions: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        tuned.tune_settings(space=dimensions)


def test_every_training_parameter_but_the_epochs_can_be_searched() -> None:
    names = parameter_names()

    assert {"train.seed", "train.network.dropout.lstm", "train.optimizer.clip_norm"} < set(names)
    assert "train.epochs" not in names


def test_what_optuna_suggests_becomes_training_settings() -> None:
    searched = space(
        {
            "train.network.lstm": {"layers": [1, 2], "units": [8, 16]},
            "train.network.dense": {"choices": [[], [32, 16]]},
            "train.batch_size": {"low": 8, "high": 64, "step": 8},
            "train.optimizer.learning_rate": {"low": 0.01, "high": 0.5, "log": True},
        }
    )
    fixed = {
        "train.network.lstm.layers": 2,
        "train.network.lstm.units": 16,
        "train.network.dense": "[32, 16]",
        "train.batch_size": 24,
        "train.optimizer.learning_rate": 0.25,
    }

    values = searched.suggest(optuna.trial.FixedTrial(fixed))  # type: ignore[arg-type]
    settings = searched.settings(values)

    assert settings.network.lstm == (16, 16)
    assert settings.network.dense == (32, 16)
    assert (settings.batch_size, settings.optimizer.learning_rate) == (24, 0.25)
    assert settings.network.pooling == TRAIN.network.pooling


def test_the_present_settings_are_a_point_of_the_space() -> None:
    searched = space(
        {"train.network.lstm": {"layers": [1, 2], "units": [8, 16]}, "train.network.dense": {"choices": [[], [32]]}}
    )

    assert searched.current() == {
        "train.network.lstm.layers": 2,
        "train.network.lstm.units": 8,
        "train.network.dense": "[]",
    }
    assert searched.settings(searched.values(searched.current())) == TRAIN


@pytest.mark.parametrize(
    "dimensions",
    [
        {"train.network.lstm": {"layers": [1], "units": [8]}},
        {"train.network.pooling": {"choices": ["max", "last"]}},
        {"train.optimizer.momentum": {"low": 0.1, "high": 0.5}},
        {"train.optimizer.momentum": {"low": 0.0, "high": 0.96, "step": 0.04}},
    ],
)
def test_a_space_without_the_present_settings_is_refused(dimensions: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="does not hold the present value"):
        space(dimensions)


def test_a_value_that_the_training_refuses_is_named_before_the_search() -> None:
    with pytest.raises(UserError, match=r'train\.network\.pooling: the training refuses "median"'):
        space({"train.network.pooling": {"choices": ["mean_and_std", "median"]}})


def test_a_part_of_what_is_null_cannot_be_searched() -> None:
    with pytest.raises(UserError, match=r"cannot be searched while train\.early_stopping is null"):
        space({"train.early_stopping.patience": {"low": 1, "high": 5}})


def test_a_share_of_the_utterances_is_the_same_share_of_each_speaker_and_emotion() -> None:
    table = tuned.manifest(words=10)
    ids = tuple(table["id"])

    kept = sample(table, ids, share=0.4, seed=1)

    rows = table[table["id"].isin(kept)]
    assert set(rows.groupby(["speaker", "emotion"]).size()) == {4}
    assert kept == sample(table, ids, share=0.4, seed=1) != sample(table, ids, share=0.4, seed=2)
    assert [name for name in ids if name in set(kept)] == list(kept)
    assert sample(table, ids, share=1.0, seed=1) == ids


def test_samplers_are_equal_for_the_same_trial_and_differ_among_workers_and_trials() -> None:
    settings = tuned.tune_settings()

    def first(worker: int, trials: int) -> float:
        study = optuna.create_study(sampler=sampler(settings, worker=worker, trials=trials))
        return study.ask().suggest_float("x", 0, 1)

    values = {(worker, trials): first(worker, trials) for worker in range(3) for trials in range(3)}
    assert len(set(values.values())) == 9
    assert values == {key: first(*key) for key in values}


def test_a_trial_of_a_killed_process_is_tried_again_and_counted_once(study: optuna.Study, ground: Ground) -> None:
    storage = storage_of(ground.tune)
    study.enqueue_trial(PARAMETERS)
    running(study, DEAD)
    alive = running(study, process_name())

    assert release_the_dead(study, storage) == 1
    assert release_the_dead(study, storage) == 0

    trials = study.get_trials()
    assert [trial.state.name for trial in trials] == ["FAIL", "RUNNING", "WAITING"]
    assert [trial.number for trial in distinct(trials)] == [alive.number, 2]
    assert reason(trials[0]) == "its process was killed"
    again = study.ask()
    assert again.number == 2
    assert again.suggest_float("train.optimizer.learning_rate", 0.01, 0.5, log=True) == 0.1
    # what the retry knows of its process is still that of the dead one
    assert release_the_dead(study, storage) == 0
    study.tell(again, 0.75)
    assert [trial.number for trial in finished(study.get_trials())] == [2]


def test_a_trial_is_not_tried_again_for_ever(study: optuna.Study, ground: Ground) -> None:
    storage = storage_of(ground.tune)
    for _ in range(ground.tune.retries + 1):
        running(study, DEAD)
        assert release_the_dead(study, storage) == 1

    assert not [trial for trial in study.get_trials() if trial.state is TrialState.WAITING]
    [counted] = distinct(study.get_trials())
    assert reason(counted) == "its process was killed"


def test_an_interrupted_trial_is_taken_up_by_the_next_call(study: optuna.Study) -> None:
    trial = running(study, process_name())
    trial.set_user_attr(REASON, INTERRUPTED)
    requeue(study, study.tell(trial, state=TrialState.FAIL))

    assert [one.state.name for one in distinct(study.get_trials())] == ["WAITING"]


def test_the_best_of_equals_is_the_first_and_retries_count_once(study: optuna.Study) -> None:
    study.add_trial(ended(value=0.25))
    study.add_trial(ended(value=0.5))
    study.add_trial(ended(TrialState.PRUNED))
    study.add_trial(ended(value=0.5))

    found = best(study)

    assert found is not None
    assert found.number == 1
    assert best_so_far(study.get_trials()) == [0.25, 0.5, 0.5]


def test_another_space_recipe_or_corpus_is_another_study_and_a_larger_budget_is_not(ground: Ground) -> None:
    name = ground.study_name()

    assert tuned.ground(trials=99, minutes=1.0, retries=1).study_name() == name
    assert tuned.ground(seed=8).study_name() != name
    assert tuned.ground(recipe={"share": 0.6, "epochs": 2, "members": 1}).study_name() != name
    assert tuned.make_ground(Path(), words=9).study_name() != name


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///study.db", "SQLite locks up"),
        ("nothing", "expected the URL of a database"),
        ("postgresql+psycopg2://${NOBODY_SET_THIS}@host/name", "the environment has no NOBODY_SET_THIS"),
    ],
)
def test_a_storage_that_cannot_work_is_refused(url: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        storage_of(tuned.tune_settings(storage=url))


def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    storage = Storage("postgresql+psycopg2://user:secret@127.0.0.1:1/name", tmp_path, 30, 1)

    with pytest.raises(UserError, match=r"postgresql\+psycopg2://127\.0\.0\.1:1/name does not answer") as error:
        storage.open("study")

    assert "secret" not in str(error.value).split("(")[0]


HOLDING = """
import os, time
from speech_emotion.tuning.study import create, storage_of
from helpers import tuned
settings = tuned.tune_settings()
study = create("a-study", storage_of(settings), settings)
print("made", flush=True)
os.fsync = lambda _: (print("held", flush=True), time.sleep(600))
study.ask()
"""


@pytest.mark.timeout(60)
def test_who_is_killed_while_it_writes_the_journal_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = tuned.tune_settings()
    place = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": place}
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["made\n", "held\n"]
        process.kill()

    study = open_study("a-study", storage_of(settings))

    assert study.ask().number == 1
    assert [trial.state.name for trial in study.get_trials()] == ["RUNNING", "RUNNING"]


def test_ctrl_c_waits_for_what_libraries_have_begun_and_a_second_one_does_not() -> None:
    done: list[int] = []

    def press(times: int) -> None:
        with _ctrl_c_waits():
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
            done.append(times)

    press(0)
    for times in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            press(times)

    assert done == [0, 1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_local_journal_with_a_cluster_is_refused_with_the_reason(ground: Ground) -> None:
    with pytest.raises(UserError, match="safe among its processes and not among machines"):
        search(ground, ComputeSettings(workers=None, backend="ray"))


def winner(ground: Ground, **changes: Any) -> Winner:
    digests = ground.digests()
    values = {"train.optimizer.momentum": 0.8, "train.network.lstm": [32], "train.optimizer.learning_rate": 0.2}
    found = {name: digests[name] for name in FOUND_ON} | changes
    return Winner("a-study", "trial-003", "speaker", 0.75, 0.5, "trained 2 epochs", values, **found)


@pytest.fixture
def params(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes((root / "params.yaml").read_bytes())
    return path


def test_the_winner_lands_in_params_with_comments_and_order_kept(ground: Ground, params: Path) -> None:
    before = params.read_text()
    folder = params.parent / "report"
    folder.mkdir()
    write_winner(winner(ground), folder)

    difference, found = apply(ground, folder, params)

    changed = [line for line in difference.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert [line.split("#")[0].split() for line in changed if line[0] == "+"] == [
        ["+", "lstm:", "[32]"],
        ["+", "learning_rate:", "0.2"],
        ["+", "momentum:", "0.8"],
    ]
    assert params.read_text().count("#") == before.count("#")
    assert found.sentence.startswith("trial-003 of a-study: UAR 0.7500 (the settings before: 0.5000)")
    assert apply(ground, folder, params)[0] == ""


@pytest.mark.parametrize("name", ["data", "features"])
def test_a_winner_of_other_data_or_features_is_refused(ground: Ground, params: Path, name: str) -> None:
    before = params.read_bytes()
    folder = params.parent / "report"
    folder.mkdir()
    write_winner(winner(ground, **{name: "0" * 64}), folder)

    with pytest.raises(UserError, match=r"was found on other [a-z-]+ 000000000000, which are now"):
        apply(ground, folder, params)

    assert params.read_bytes() == before


def test_without_a_winner_it_is_said_what_makes_one(ground: Ground, params: Path) -> None:
    with pytest.raises(UserError, match="`speech-emotion tune` writes it"):
        apply(ground, params.parent, params)


def fill(study: optuna.Study) -> None:
    """Add a trial of each state, as workers leave them."""
    for number, value in enumerate((0.5, 0.25, 0.75, 0.7)):
        trial = study.ask(DISTRIBUTIONS)
        trial.set_user_attr("history A", {"val_uar": [0.1, value], "val_loss": [2.0, 1.0]})
        trial.report(0.1, 1)
        trial.report(value, 2)
        study.tell(trial, None if number == 1 else value, state=TrialState.PRUNED if number == 1 else None)
    trial = study.ask(DISTRIBUTIONS)
    trial.set_user_attr(REASON, "train: the loss is no longer a number in epoch 1.")
    study.tell(trial, state=TrialState.FAIL)


def test_the_table_says_of_every_trial_what_became_of_it(study: optuna.Study, ground: Ground) -> None:
    fill(study)

    rows = table(study.get_trials(), ground.space)

    assert list(rows["state"]) == ["complete", "pruned", "complete", "complete", "fail"]
    assert list(rows["best_uar"]) == [0.5, 0.5, 0.75, 0.75, 0.75]
    assert rows["reason"].iloc[4] == "train: the loss is no longer a number in epoch 1."


def test_pictures_and_tables_are_drawn_and_the_page_asks_no_network(
    study: optuna.Study, ground: Ground, tmp_path: Path
) -> None:
    fill(study)
    folder = tmp_path / "report"
    folder.mkdir()

    write_tables(study, ground.space, folder, promoted=None, page=tmp_path / "page.html", seed=1)

    names = {path.name for path in folder.iterdir()}
    assert names == {"trials.csv", "importances.csv"} | {
        f"{name}.png"
        for name in (
            "optimization_history",
            "param_importances",
            "parallel_coordinate",
            "slice",
            "intermediate_values",
            "timeline",
        )
    }
    page = (tmp_path / "page.html").read_text()
    assert page.count("<h2>") == 6
    assert "<script src=" not in page
    assert "cdn." not in page.replace(page[page.index("<script>") : page.index("</script>")], "")


def test_pictures_have_the_style_of_the_others_and_leave_everyone_elses_as_it_is(
    study: optuna.Study, tmp_path: Path
) -> None:
    fill(study)
    before = dict(pyplot.rcParams), dict(pyplot.style.library["ggplot"])

    draw(study, tmp_path, page=tmp_path / "page.html", found=dict.fromkeys(sorted(PARAMETERS), 1 / 3))

    assert (dict(pyplot.rcParams), dict(pyplot.style.library["ggplot"])) == before
    for path in tmp_path.glob("*.png"):
        pixels = pyplot.imread(path)[..., :3]
        assert pixels.shape[:2] == (600, 1080)
        # Optuna's own have a grey ground
        assert (pixels == 1).all(axis=-1).mean() > 0.5, path.name


def test_names_of_parameters_are_written_in_full(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(study)
    texts: dict[str, set[str]] = {}

    def read(figure: Figure, path: str, **_: Any) -> None:
        texts[Path(path).name.partition(".png")[0].lstrip(".")] = {one.get_text() for one in figure.findobj(Text)}

    monkeypatch.setattr(plots, "replacing", nullcontext)
    monkeypatch.setattr(Figure, "savefig", read)
    draw(study, tmp_path, page=tmp_path / "page.html", found=dict.fromkeys(sorted(PARAMETERS), 1 / 3))

    broken = {name.removeprefix("train.").replace(".", ".\n") for name in PARAMETERS}
    assert broken <= texts["parallel_coordinate"]
    assert broken <= texts["slice"]
    assert {"completed", "pruned: too poor to go on", "failed or interrupted"} <= texts["timeline"]
    assert {"completed", "pruned or cut off", "the best trial"} <= texts["intermediate_values"]


def test_every_axis_of_parallel_coordinates_ends_where_its_values_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"even": FloatDistribution(0, 1), "rate": FloatDistribution(0.01, 0.5, log=True)}
    study = optuna.create_study(direction="maximize")
    for even, rate in ((0.13, 0.03), (0.47, 0.4), (0.2, 0.1)):
        study.add_trial(create_trial(params={"even": even, "rate": rate}, distributions=asked, value=even))
    spans: dict[str, list[tuple[float, float]]] = {}

    def read(figure: Figure, path: str, **_: Any) -> None:
        figure.draw_without_rendering()
        spans[Path(path).stem.lstrip(".")] = [axes.get_ylim() for axes in figure.axes[-2:]]

    monkeypatch.setattr(plots, "replacing", nullcontext)
    monkeypatch.setattr(Figure, "savefig", read)
    draw(study, tmp_path, page=tmp_path / "page.html", found=dict.fromkeys(asked, 0.5))

    # lines are drawn by those ends, whatever ticks there are
    assert spans["parallel_coordinate"] == [pytest.approx((0.13, 0.47)), pytest.approx((0.03, 0.4))]


def test_the_trials_that_were_trained_in_full_have_a_table_of_their_own(
    study: optuna.Study, ground: Ground, tmp_path: Path
) -> None:
    fill(study)
    full = create("a-study-full", storage_of(ground.tune), ground.tune)
    full.add_trial(ended(value=0.625))

    write_tables(study, ground.space, tmp_path, promoted=full, page=tmp_path / "page.html", seed=1)

    assert len(pd.read_csv(tmp_path / "trials.csv")) == 5
    rows = pd.read_csv(tmp_path / "promoted.csv")
    assert list(rows["uar"]) == [0.625]
    assert rows["train.optimizer.learning_rate"].iloc[0] == 0.1


def test_the_picture_of_importances_shows_those_of_the_table(
    study: optuna.Study, ground: Ground, tmp_path: Path
) -> None:
    fill(study)
    names = sorted(PARAMETERS)

    draw(study, tmp_path, page=tmp_path / "page.html", found={names[0]: 0.625, names[1]: 0.375})

    page = (tmp_path / "page.html").read_text()
    bars = page[page.rindex('id="param_importances"') : page.rindex('id="parallel_coordinate"')]
    assert "0.625" in bars
    assert "0.375" in bars


@pytest.mark.parametrize(
    ("devices", "neighbours", "shares"),
    [
        ("0 1", 2, ["0", "1"]),
        ("0 1 2 3", 2, ["0 2", "1 3"]),
        ("4 6 7", 2, ["4 7", "6"]),
        ("0 1", 3, ["0", "1", "0"]),
        ("GPU-aa", 2, ["GPU-aa", "GPU-aa"]),
        ("0 1", 1, ["0 1"]),
    ],
)
def test_workers_divide_the_gpus_of_their_machine(devices: str, neighbours: int, shares: list[str]) -> None:
    found = [own_devices(devices.split(), worker=number, neighbours=neighbours) for number in range(neighbours)]

    assert [" ".join(one) for one in found] == shares


@pytest.mark.parametrize(
    ("recipe", "said", "unsaid"),
    [
        ("trained 3 epochs on all training utterances", "should come to about 0.750.", "may turn out"),
        ("trained 2 epochs on 50% of the training utterances", "may turn out the better ones", "should come to"),
    ],
)
def test_applying_promises_a_figure_only_of_the_full_recipe(
    ground: Ground, tmp_path: Path, recipe: str, said: str, unsaid: str
) -> None:
    tuned.write_params(tmp_path)
    folder = report_folder(ground.corpus.name)
    folder.mkdir(parents=True)
    write_winner(replace(winner(ground), recipe=recipe), folder)

    first, again = (CliRunner().invoke(app, ["tune", "--apply"]) for _ in range(2))

    assert first.exit_code == again.exit_code == 0, first.output
    assert said in first.stdout
    assert unsaid not in first.stdout
    assert again.stdout.startswith("params.yaml has these settings already.\n")
    assert said not in again.stdout


def runs(study: optuna.Study) -> dict[str, Run]:
    client = connection.connect(connection.locate())
    found = client.get_experiment_by_name("speech-emotion-tiny-tuning")
    assert found is not None
    listed = client.search_runs([found.experiment_id], run_view_type=ViewType.ALL)
    named = {run.info.run_name: run for run in listed if run.data.tags["study"] == study.study_name}
    assert len(named) == len(listed), "two runs have one name"
    return named


def test_mlflow_has_a_run_of_the_study_and_one_of_each_trial_below_it(study: optuna.Study, ground: Ground) -> None:
    def follower() -> Follower:
        return Follower(study, ground, ground.digests(), recipe="trained 2 epochs")

    follower().update()
    fill(study)
    follower().update()
    # another process, which knows nothing of what was told
    file = Path("a.txt")
    file.write_text("a")
    follower().end([file], "FINISHED")

    found = runs(study)
    parent = found.pop(study.study_name)
    assert sorted(found) == [f"trial-{number:03d}" for number in range(5)]
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {parent.info.run_id}
    states = [found[name].data.tags["state"] for name in sorted(found)]
    assert states == ["complete", "pruned", "complete", "complete", "failed"]
    assert [found[name].info.status for name in sorted(found)] == ["FINISHED"] * 4 + ["FAILED"]
    assert found["trial-004"].data.tags["reason"].startswith("train: the loss")
    assert set(found["trial-002"].data.params) == set(PARAMETERS)
    client = connection.connect(connection.locate())
    for key in ("val_uar", "A/val_uar", "A/val_loss"):
        history = client.get_metric_history(found["trial-002"].info.run_id, key)
        assert [metric.step for metric in history] == [1, 2]
    assert found["trial-002"].data.metrics["uar"] == 0.75
    assert "duration_seconds" in found["trial-002"].data.metrics
    best_uar = client.get_metric_history(parent.info.run_id, "best_uar")
    assert [metric.value for metric in best_uar] == [0.5, 0.75, 0.75]
    assert parent.info.status == "FINISHED"
    assert {"study/a.txt", "study/space.json"} == {
        info.path for info in client.list_artifacts(parent.info.run_id, "study")
    }


def test_a_dead_mlflow_does_not_hold_a_search_up(
    study: optuna.Study, ground: Ground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    fill(study)
    follower = Follower(study, ground, ground.digests(), recipe="trained 2 epochs")

    follower.update()
    follower.update()

    said = capsys.readouterr().err
    assert said.count("does not take this study") == 1
