"""The report, the winner in params.yaml, and the runs in MLflow, for studies that trained nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from matplotlib import pyplot
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from helpers import tuned
from speech_emotion.config.params import ComputeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.tracking.connection import connect, locate
from speech_emotion.tuning.mlflow_sync import StudySync
from speech_emotion.tuning.objective import SearchInputs
from speech_emotion.tuning.report import Winner, apply_winner, write_report, write_winner
from speech_emotion.tuning.search import search
from speech_emotion.tuning.study import REASON, Storage, create, set_attribute

DISTRIBUTIONS = {
    "train.optimizer.learning_rate": FloatDistribution(0.01, 0.5, log=True),
    "train.optimizer.momentum": CategoricalDistribution([0.8, 0.9]),
    "train.network.dropout.lstm": FloatDistribution(0.0, 0.6, step=0.2),
}
PARAMETERS = dict(zip(DISTRIBUTIONS, (0.1, 0.9, 0.2), strict=True))
DIVERGED = "train: Loss became NaN in epoch 1."


def fill(study: optuna.Study) -> None:
    """Add a trial of each state, as workers leave them."""
    for number, value in enumerate((0.5, 0.75, 0.25, 0.3)):
        trial = study.ask(DISTRIBUTIONS)
        for step, loss in enumerate((0.9, value), 1):
            trial.report(loss, step)
        study.tell(trial, None if number == 1 else value, state=TrialState.PRUNED if number == 1 else None)
    trial = study.ask(DISTRIBUTIONS)
    set_attribute(trial, REASON, DIVERGED)
    study.tell(trial, state=TrialState.FAIL)


@pytest.mark.parametrize("waiting", [0, 1])
def test_report_before_the_first_trial(study: optuna.Study, tmp_path: Path, waiting: int) -> None:
    for _ in range(waiting):
        study.enqueue_trial(PARAMETERS)
    folder = tmp_path / "report"
    folder.mkdir()

    write_report(folder, study, None, None, seed=1)

    assert {path.name for path in folder.iterdir()} == {"trials.csv"}
    assert len(pd.read_csv(folder / "trials.csv")) == waiting


def test_report_has_tables_and_plots(study: optuna.Study, inputs: SearchInputs, tmp_path: Path) -> None:
    fill(study)
    full = create("a-study-full", Storage.of(inputs.tune), inputs.tune)
    full.add_trial(create_trial(value=0.625, params=PARAMETERS, distributions=DISTRIBUTIONS))
    folder, background = tmp_path / "report", pyplot.rcParams["axes.facecolor"]
    folder.mkdir()

    write_report(folder, study, full, None, seed=1)

    names = ("optimization_history", "param_importances", "timeline", "intermediate_values")
    plots = {f"{name}.png" for name in names}
    assert {path.name for path in folder.iterdir()} == plots | {"trials.csv", "promoted.csv"}
    assert all(pyplot.imread(folder / name).shape[1] > 600 for name in plots)
    assert pyplot.rcParams["axes.facecolor"] == background
    rows = pd.read_csv(folder / "trials.csv")
    assert list(rows["state"]) == ["COMPLETE", "PRUNED", "COMPLETE", "COMPLETE", "FAIL"]
    assert list(rows["nll"].dropna()) == [0.5, 0.75, 0.25, 0.3]
    assert rows["reason"].iloc[4] == DIVERGED
    promoted = pd.read_csv(folder / "promoted.csv")
    assert list(promoted["nll"]) == [0.625]
    assert promoted["train.optimizer.learning_rate"].iloc[0] == 0.1


def winner(inputs: SearchInputs, **changes: Any) -> Winner:
    digests = inputs.digests()
    values = {"train.optimizer.momentum": 0.8, "train.network.lstm": [32], "train.optimizer.learning_rate": 0.2}
    found = Winner("a-study", "trial-003", "speaker", 0.5, 0.75, "", values, digests["data"], digests["features"])
    return replace(found, **{"recipe": str(inputs.tune.recipe), **changes})


@pytest.fixture
def params(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes((root / "params.yaml").read_bytes())
    return path


def test_apply_keeps_comments_and_order(inputs: SearchInputs, params: Path) -> None:
    before = params.read_text()
    write_winner(winner(inputs), params.parent)

    difference, found = apply_winner(inputs, params.parent, params)

    added = [line for line in difference.splitlines() if line[0] == "+" and line[:3] != "+++"]
    assert [line.split("#")[0].split() for line in added] == [
        ["+", "lstm:", "[32]"],
        ["+", "learning_rate:", "0.2"],
        ["+", "momentum:", "0.8"],
    ]
    assert params.read_text().count("#") == before.count("#")
    assert str(found).startswith("trial-003 of a-study: validation NLL 0.5000 (current settings: 0.7500)")
    assert apply_winner(inputs, params.parent, params)[0] == ""


@pytest.mark.parametrize("name", ["data", "features"])
def test_apply_refuses_another_corpus_or_features(inputs: SearchInputs, params: Path, name: str) -> None:
    before = params.read_bytes()
    write_winner(winner(inputs, **{name: "0" * 64}), params.parent)

    with pytest.raises(UserError, match=f"found on {name} 000000000000, but the current {name} are"):
        apply_winner(inputs, params.parent, params)

    assert params.read_bytes() == before


def test_apply_without_a_winner(inputs: SearchInputs, params: Path) -> None:
    with pytest.raises(UserError, match="`speech-emotion tune` writes it"):
        apply_winner(inputs, params.parent, params)


def test_unknown_fold_is_named(inputs: SearchInputs) -> None:
    tune = inputs.tune.model_copy(update={"folds": ("9",)})

    with pytest.raises(UserError, match="'9' is not a fold"):
        search(replace(inputs, tune=tune), ComputeSettings(workers=1, backend="local"))


def test_journal_on_a_cluster_is_refused(inputs: SearchInputs) -> None:
    with pytest.raises(UserError, match="needs a database"):
        search(inputs, ComputeSettings(workers=None, backend="ray"))


def test_mlflow_has_a_run_per_trial(study: optuna.Study, inputs: SearchInputs) -> None:
    def sync() -> StudySync:
        return StudySync(study, inputs, inputs.digests(), "trained 2 epochs")

    sync().update()
    fill(study)
    sync().update()
    # a new process, which does not know what was sent
    file = Path("a.txt")
    file.write_text("a")
    sync().finish([file], "FINISHED")

    found, client = tuned.trial_runs(), connect(locate())
    [parent] = {run.data.tags["mlflow.parentRunId"] for run in found.values()}
    assert sorted(found) == [f"trial-{number:03d}" for number in range(5)]
    states = [found[name].data.tags["state"] for name in sorted(found)]
    assert states == ["complete", "pruned", "complete", "complete", "failed"]
    assert [found[name].info.status for name in sorted(found)] == ["FINISHED"] * 4 + ["FAILED"]
    assert found["trial-004"].data.tags["reason"] == DIVERGED
    assert set(found["trial-002"].data.params) == set(PARAMETERS)
    history = client.get_metric_history(found["trial-002"].info.run_id, "val_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.9), (2, 0.25)]
    assert found["trial-002"].data.metrics["nll"] == 0.25
    study_run = client.get_run(parent).info
    assert (study_run.run_name, study_run.status) == (study.study_name, "FINISHED")
    files = client.list_artifacts(parent, "study")
    assert {file.path for file in files} == {"study/a.txt", "study/space.json"}


def test_unreachable_mlflow_is_reported_once(
    study: optuna.Study, inputs: SearchInputs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    fill(study)
    sync = StudySync(study, inputs, inputs.digests(), "trained 2 epochs")

    sync.update()
    sync.update()

    assert capsys.readouterr().err.count("cannot log to MLflow") == 1
