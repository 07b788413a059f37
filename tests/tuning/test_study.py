import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from helpers import tuned
from speech_emotion.core.errors import UserError
from speech_emotion.core.process import process_name
from speech_emotion.tuning.objective import SearchInputs, subsample
from speech_emotion.tuning.study import (
    FIRST_ATTEMPT,
    INTERRUPTED,
    PROCESS,
    REASON,
    Retry,
    Storage,
    create,
    finished,
    last_attempts,
    ranked,
    reason,
    retry_stale,
    sampler,
    set_attribute,
)

DEAD = f"{process_name().split(':')[0]}:999999999:1.00"


def running(study: optuna.Study, process: str) -> optuna.Trial:
    trial = study.ask()
    set_attribute(trial, PROCESS, process)
    return trial


def test_subsample_is_stratified() -> None:
    table = tuned.manifest(words=10)
    ids = tuple(table["id"])

    kept = subsample(table, ids, share=0.4, seed=1)

    rows = table[table["id"].isin(kept)]
    assert set(rows.groupby(["speaker", "emotion"]).size()) == {4}
    assert kept == subsample(table, ids, share=0.4, seed=1) != subsample(table, ids, share=0.4, seed=2)
    assert [name for name in ids if name in set(kept)] == list(kept)
    assert subsample(table, ids, share=1.0, seed=1) == ids


@pytest.mark.parametrize("kind", ["tpe", "random", "nsga_ii"])
def test_samplers_are_seeded_per_trial(kind: str) -> None:
    settings = tuned.tune_settings(sampler=kind)

    def first(worker: int, trials: int) -> float:
        study = optuna.create_study(sampler=sampler(settings, worker=worker, trials=trials))
        return study.ask().suggest_float("x", 0, 1)

    values = {(worker, trials): first(worker, trials) for worker in range(3) for trials in range(3)}
    assert len(set(values.values())) == 9
    assert values == {key: first(*key) for key in values}


def test_killed_trial_is_retried_once(study: optuna.Study, inputs: SearchInputs) -> None:
    storage = Storage.of(inputs.tune)
    study.enqueue_trial({"rate": 0.1})
    running(study, DEAD)
    alive = running(study, process_name())

    assert retry_stale(study, storage) == 1
    assert retry_stale(study, storage) == 0

    trials = study.get_trials()
    assert [trial.state.name for trial in trials] == ["FAIL", "RUNNING", "WAITING"]
    assert [trial.number for trial in last_attempts(study)] == [alive.number, 2]
    assert reason(trials[0]) == "process was killed"
    again = study.ask()
    assert again.number == 2
    assert again.suggest_float("rate", 0.01, 0.5) == 0.1
    assert retry_stale(study, storage) == 0, "the retry still carries the process of the dead attempt"
    study.tell(again, 0.75)
    assert [trial.number for trial in finished(study)] == [2]


@pytest.mark.parametrize("complete", [False, True])
def test_retry_keeps_complete_parameters_only(study: optuna.Study, inputs: SearchInputs, complete: bool) -> None:
    trial = running(study, DEAD)
    trial.suggest_float("rate", 0.01, 0.5)
    if complete:
        trial.set_user_attr(FIRST_ATTEMPT, trial.number)

    assert retry_stale(study, Storage.of(inputs.tune)) == 1

    assert [set(one.params) for one in last_attempts(study)] == [{"rate"} if complete else set()]


def test_retries_are_limited(study: optuna.Study, inputs: SearchInputs) -> None:
    storage = Storage.of(inputs.tune)
    for _ in range(inputs.tune.retries + 1):
        running(study, DEAD)
        assert retry_stale(study, storage) == 1

    assert not [trial for trial in study.get_trials() if trial.state is TrialState.WAITING]
    [trial] = last_attempts(study)
    assert reason(trial) == "process was killed"


def test_interrupted_trial_is_queued_again(study: optuna.Study) -> None:
    trial = running(study, process_name())
    set_attribute(trial, REASON, INTERRUPTED)
    Retry()(study, study.tell(trial, state=TrialState.FAIL))

    assert [one.state.name for one in last_attempts(study)] == ["WAITING"]


def test_ranked_by_loss_then_number(study: optuna.Study) -> None:
    for value in (0.75, 0.5, None, 0.5):
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=value))

    assert [trial.number for trial in ranked(study)] == [1, 3, 0]


def test_study_name_depends_on_the_search_but_not_on_its_budget(workspace: Path) -> None:
    name = tuned.inputs().study_name()

    assert tuned.inputs(trials=99, minutes=1.0, retries=1).study_name() == name
    assert tuned.inputs(seed=8).study_name() != name
    assert tuned.inputs(recipe={"share": 0.6, "epochs": 2}).study_name() != name
    assert tuned.make_inputs(Path(), words=9).study_name() != name


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///study.db", "SQLite deadlocks"),
        ("nothing", "expected the URL of a database"),
        ("postgresql+psycopg2://${UNSET_NAME}@host/name", "environment variable UNSET_NAME is not set"),
    ],
)
def test_unusable_storage_is_refused(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Storage.of(tuned.tune_settings(storage=url))


def test_unreachable_database_is_named_without_password() -> None:
    storage = Storage("postgresql+psycopg2://user:secret@127.0.0.1:1/name", 30, 1)

    with pytest.raises(UserError, match=r"cannot reach the database postgresql.*://\*\*\*@127") as error:
        storage.open("study")

    assert "secret" not in str(error.value).split("(")[0]


HOLD_LOCK = """
import os, time
from speech_emotion.tuning.study import Storage, create
from helpers import tuned
settings = tuned.tune_settings()
study = create("a-study", Storage.of(settings), settings)
print("created", flush=True)
os.fsync = lambda _: (print("locked", flush=True), time.sleep(600))
study.ask()
"""


@pytest.mark.timeout(60)
def test_journal_lock_is_released_by_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = tuned.tune_settings()
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["created\n", "locked\n"]
        process.kill()

    study = create("a-study", Storage.of(settings), settings)

    assert study.ask().number == 1
    assert [trial.state.name for trial in study.get_trials()] == ["RUNNING", "RUNNING"]
