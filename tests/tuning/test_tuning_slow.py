"""Searches that train: the same trials twice, killed and resumed, on PostgreSQL, on two Ray nodes, by the commands."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import psutil
import pytest
from mlflow.entities import Run
from optuna.storages._heartbeat import get_heartbeat_thread

from helpers import services, tuned
from helpers.workspaces import descendants, kill, works_in
from speech_emotion.config.base import read_section
from speech_emotion.config.compute import ComputeSettings
from speech_emotion.config.training import TrainSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.parallel import crew
from speech_emotion.tracking import connection
from speech_emotion.tuning.search import Outcome, search
from speech_emotion.tuning.study import (
    NUMBER,
    PROCESS,
    create,
    distinct,
    finished,
    open_study,
    reason,
    release_the_dead,
    storage_of,
)
from speech_emotion.tuning.worker import work

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from helpers import tuned
from speech_emotion.config.compute import ComputeSettings, RaySettings
from speech_emotion.core.process import run_stage
from speech_emotion.tuning.search import search
def main():
    asked = json.loads(sys.argv[2])
    if asked["compute"].get("ray"):
        asked["compute"]["ray"] = RaySettings(**asked["compute"]["ray"])
    outcome = search(tuned.ground(**asked["tune"]), ComputeSettings(**asked["compute"]))
    if outcome.interrupted:
        raise KeyboardInterrupt
if __name__ == "__main__":
    run_stage(main)
"""
"""A search as the command line makes it, in a process of its own."""


@dataclass(frozen=True)
class Searching:
    """A search in a workspace, by a process that can be killed."""

    folder: Path
    tune: dict[str, Any]
    compute: dict[str, Any]

    @contextmanager
    def started(self) -> Iterator[psutil.Popen]:
        asked = json.dumps({"tune": self.tune, "compute": self.compute})
        with open(self.folder / "search.log", "ab") as log:
            process = psutil.Popen(
                [sys.executable, "-c", SCRIPT, str(Path(__file__).parent.parent), asked],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                yield process
            finally:
                kill(process, *descendants(process))
                process.wait()

    def run(self) -> None:
        with self.started() as process:
            assert process.wait(500) == 0, self.log

    @property
    def log(self) -> str:
        return (self.folder / "search.log").read_text()

    @cached_property
    def study(self) -> optuna.Study:
        """The study, opened once: each opening is another connection to a database that takes a hundred."""
        ground = tuned.ground(**self.tune)
        return open_study(ground.study_name(), storage_of(ground.tune))

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        try:
            return self.study.get_trials()
        except (KeyError, UserError):
            return []  # nothing is written yet


def wait_until(searching: Searching, process: psutil.Popen, true: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, f"the search ended before it came to that:\n{searching.log}"
        assert time.monotonic() < end, f"waited in vain:\n{searching.log}"
        time.sleep(0.3)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    tuned.make_ground(tmp_path)
    return tmp_path


def run(folder: Path, *, workers: int = 1, **changes: Any) -> tuple[Outcome, list[optuna.trial.FrozenTrial]]:
    ground = tuned.make_ground(folder, **changes)
    outcome = search(ground, ComputeSettings(workers=workers))
    return outcome, open_study(ground.study_name(), storage_of(ground.tune)).get_trials()


def tried(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[dict[str, Any], float | None]]:
    """Return what was tried and came out, of the trials that count, in the order of their first tries."""
    return [(trial.params, trial.value) for trial in finished(trials)]


def running(trials: list[optuna.trial.FrozenTrial]) -> int:
    # as its own try: one that is tried again has the process and the number of the try before
    return sum(trial.state.name == "RUNNING" and trial.user_attrs.get(NUMBER) == trial.number for trial in trials)


def test_a_seed_gives_the_same_trials_twice_also_across_a_resume_and_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruner = {"kind": "median", "startup_trials": 2, "warmup_epochs": 1}
    asked = tuned.ONE_FOLD | {"sampler": "tpe", "trials": 6, "pruner": pruner}
    for name in ("whole", "resumed", "killed"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    _, whole = run(tmp_path / "whole", **asked)
    assert whole[0].params == tuned.ground(**asked).space.current()

    monkeypatch.chdir(tmp_path / "resumed")
    run(tmp_path / "resumed", **asked | {"trials": 2})
    _, resumed = run(tmp_path / "resumed", **asked)
    assert tried(resumed) == tried(whole)

    monkeypatch.chdir(tmp_path / "killed")
    tuned.make_ground(tmp_path / "killed")
    searching = Searching(tmp_path / "killed", asked, {"workers": 1})
    with searching.started() as process:
        wait_until(
            searching, process, lambda: len(finished(searching.trials())) >= 2 and running(searching.trials()) > 0
        )
        kill(process, *descendants(process))
    searching.run()
    killed = searching.trials()
    assert "will be tried again" in searching.log
    assert len(killed) == 7
    assert sorted(map(str, tried(killed))) == sorted(map(str, tried(whole)))


def test_two_workers_of_four_are_killed_then_the_parent_and_nothing_is_lost_or_counted_twice(workspace: Path) -> None:
    searching = Searching(workspace, tuned.ONE_FOLD | {"trials": 8}, {"workers": 4})
    with searching.started() as process:
        wait_until(searching, process, lambda: running(searching.trials()) == 4)
        victims = {trial.user_attrs["process"] for trial in searching.trials() if trial.state.name == "RUNNING"}
        for name in sorted(victims)[:2]:
            os.kill(int(name.split(":")[1]), signal.SIGKILL)
        # the two that are left go on, and take over
        wait_until(searching, process, lambda: len(finished(searching.trials())) >= 3)
        before = {trial.number: trial.value for trial in finished(searching.trials())}
        process.kill()
        process.wait()
        psutil.wait_procs(others_in(workspace), 60)
        assert not others_in(workspace)

    searching.run()

    trials = searching.trials()
    counted = finished(trials)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert len(counted) == len(distinct(trials)) == 8
    assert all(trial.state.name == "COMPLETE" for trial in counted), [reason(trial) for trial in counted]
    assert before.items() <= {trial.number: trial.value for trial in counted}.items()
    assert max(trial.value or 0 for trial in counted) >= max(value or 0 for value in before.values())
    retried = [trial for trial in trials if trial not in counted]
    assert len(retried) >= 2
    assert {reason(trial) for trial in retried} == {"its process was killed"}
    check_mlflow(trials)


def others_in(folder: Path) -> list[psutil.Process]:
    """Return the processes that work in a folder, but this one."""
    return [one for one in psutil.process_iter() if works_in(one, folder) and one.pid != os.getpid()]


def check_mlflow(trials: list[optuna.trial.FrozenTrial]) -> None:
    """Hold MLflow against the study: a run for each trial, none twice, none still running."""
    runs = mlflow_runs()
    numbers = sorted(int(run.data.tags["trial"]) for run in runs.values())
    assert numbers == [trial.number for trial in trials]
    assert not [name for name, run in runs.items() if run.info.status == "RUNNING"]


def mlflow_runs() -> dict[str, Run]:
    """Return the runs of all trials by their names."""
    client = connection.connect(connection.locate())
    found = client.get_experiment_by_name("speech-emotion-tiny-tuning")
    assert found is not None
    runs = client.search_runs([found.experiment_id], "tags.kind = 'trial'")
    named = {run.info.run_name: run for run in runs}
    assert len(named) == len(runs), "two trials have one name"
    return named


def test_ctrl_c_ends_with_what_was_found_and_the_next_call_goes_on(workspace: Path) -> None:
    searching = Searching(workspace, {"trials": 5, "recipe": {"share": 1.0, "epochs": 6, "members": 1}}, {"workers": 1})
    with searching.started() as process:
        wait_until(
            searching, process, lambda: len(finished(searching.trials())) >= 1 and running(searching.trials()) > 0
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130, searching.log
    assert "Traceback" not in searching.log
    assert json.loads((workspace / "reports/tiny/tuning/winner.json").read_text())["uar"] > 0

    searching.run()

    assert len(finished(searching.trials())) == 5
    assert {reason(trial) for trial in searching.trials()} <= {"", "interrupted"}


def test_a_trial_that_fails_is_recorded_and_one_that_is_hopeless_is_pruned(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    optimizer = "train.optimizer"
    names = (f"{optimizer}.learning_rate", f"{optimizer}.weight_decay", f"{optimizer}.schedule", "train.batch_size")
    choices = ([0.1, 1e-6, 10.0], [0.0, 0.9], ["one_cycle", "constant"], [16, 1])
    space = {name: {"choices": values} for name, values in zip(names, choices, strict=True)}
    pruner = {"kind": "median", "startup_trials": 2, "warmup_epochs": 1}
    ground = tuned.ground(space=space, pruner=pruner, trials=4, recipe={"share": 1.0, "epochs": 6, "members": 1})
    # with this rate and decay, each of many steps makes every weight eight times as large
    tries = ((10.0, 0.9, "constant", 1), (0.1, 0.0, "constant", 16), (1e-6, 0.0, "one_cycle", 16))
    queue = [dict(zip(names, values, strict=True)) for values in tries]

    outcome = search(ground, ComputeSettings(workers=1), queue=queue)

    trials = open_study(ground.study_name(), storage_of(ground.tune)).get_trials()
    assert outcome.winner is not None
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "PRUNED"]
    why = reason(trials[1])
    assert why.startswith("train: the loss is no longer a number in epoch ")
    rows = pd.read_csv(outcome.report / "trials.csv", keep_default_na=False)
    assert list(rows["reason"]) == ["", why, "", ""]
    assert list(rows["state"]) == ["complete", "fail", "complete", "pruned"]
    run = mlflow_runs()["trial-001"]
    assert (run.info.status, run.data.tags["state"], run.data.tags["reason"]) == ("FAILED", "failed", why)
    assert f": {why}; 2 of 4, best " in capsys.readouterr().out


def test_a_search_in_which_everything_fails_says_so(workspace: Path) -> None:
    (workspace / "data/tiny/features/recorded-00000.parquet").write_bytes(b"no parquet")

    with pytest.raises(UserError, match=r"all 4 trials of tiny-speaker-\w+ failed; the first: ArrowInvalid"):
        search(tuned.ground(), ComputeSettings(workers=1))


def test_the_best_are_trained_in_full_and_the_present_settings_beside_them(workspace: Path) -> None:
    asked = {"promotion": {"trials": 1, "share": 0.5}, "trials": 3, "second": None}
    outcome, _ = run(workspace, **asked)

    assert outcome.winner is not None
    assert outcome.winner.recipe == "trained 3 epochs on all training utterances"
    assert outcome.winner.present_uar is not None
    assert outcome.winner.uar >= outcome.winner.present_uar
    rows = pd.read_csv(outcome.report / "promoted.csv")
    assert list(rows["state"]) == ["complete"] * len(rows)
    assert len(rows) in {1, 2}, "the best, and the present settings, which may be the best"
    assert rows["uar"].max() == pytest.approx(outcome.winner.uar, rel=1e-5)
    assert rows["uar"].iloc[0] == pytest.approx(outcome.winner.present_uar, rel=1e-5)
    assert set(rows["steps"]) == {6}, "both folds, three epochs each"
    assert len(pd.read_csv(outcome.report / "trials.csv")) == 3


def test_a_second_objective_gives_a_pareto_front(workspace: Path) -> None:
    space = tuned.SPACE | {"train.network.lstm": {"layers": [1], "units": [4, 8]}}
    for second in ("parameters", "latency_ms"):
        outcome, trials = run(workspace, **tuned.ONE_FOLD, second=second, space=space, trials=3)

        assert all(len(trial.values) == 2 and trial.values[1] > 0 for trial in trials)
        assert (outcome.report / "pareto_front.png").exists()


def test_four_workers_on_postgresql_lose_no_trial(workspace: Path) -> None:
    with services.postgresql() as uri:
        # nobody dies here: a machine that is busy for seconds is not to be taken for dead
        asked = tuned.ONE_FOLD | {"trials": 8, "storage": uri, "heartbeat_seconds": 30}
        searching = Searching(workspace, asked, {"workers": 4})
        searching.run()
        trials = searching.trials()

        assert [trial.number for trial in trials] == list(range(8))
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * 8, [reason(trial) for trial in trials]
        for word in ("lock", "Error", "Traceback"):
            assert word not in searching.log
        assert len({trial.user_attrs["process"] for trial in trials}) == 4
        check_mlflow(trials)


def test_a_silent_trial_of_another_machine_is_tried_again_and_one_that_shows_life_is_not(workspace: Path) -> None:
    with services.postgresql() as uri:
        settings = tuned.tune_settings(storage=uri, heartbeat_seconds=1)
        storage = storage_of(settings)
        study = create("a-study", storage, settings)
        silent, alive = study.ask(), study.ask()
        for trial in (silent, alive):
            trial.set_user_attr(PROCESS, "elsewhere:1:1.00")
            trial.set_user_attr(NUMBER, trial.number)
        with get_heartbeat_thread(silent._trial_id, study._storage):
            assert release_the_dead(study, storage) == 0
        with get_heartbeat_thread(alive._trial_id, study._storage):
            end = time.monotonic() + 60
            while not (released := release_the_dead(study, storage)) and time.monotonic() < end:
                time.sleep(0.5)
            time.sleep(3)  # longer than a silence may last
            assert release_the_dead(study, storage) == 0

        assert released == 1
        trials = study.get_trials()
        assert [trial.state.name for trial in trials] == ["FAIL", "RUNNING", "WAITING"]
        assert reason(trials[0]) == "its process was killed"
        assert [trial.number for trial in distinct(trials)] == [1, 2]


GONE = "error: tune.storage: the database postgresql+psycopg2://127.0.0.1:"


def test_a_database_that_goes_away_is_one_message_and_the_same_command_goes_on_when_it_is_back(
    workspace: Path,
) -> None:
    with services.database() as server:
        asked = {"storage": server.uri, **tuned.ONE_FOLD}
        searching = Searching(workspace, {"trials": 40, **asked}, {"workers": 1})
        with searching.started() as process:
            wait_until(
                searching, process, lambda: len(finished(searching.trials())) >= 1 and running(searching.trials()) > 0
            )
            before = {trial.number: trial.value for trial in finished(searching.trials())}
            server.stop()
            assert process.wait(120) == 1, searching.log
        assert "Traceback" not in searching.log
        [said] = {line for line in searching.log.splitlines() if line.startswith("error:")}
        assert said.startswith(GONE)
        assert "no longer answers" in said
        assert said.endswith("What has ended is kept: the same command goes on when it does.")

        server.start()
        again = Searching(workspace, {"trials": len(before) + 2, **asked}, {"workers": 1})
        again.run()

        trials = again.trials()
        assert before.items() <= {trial.number: trial.value for trial in finished(trials)}.items()
        assert len(finished(trials)) >= len(before) + 2
        assert {trial.state.name for trial in finished(trials)} == {"COMPLETE"}
        check_mlflow(trials)


def test_a_worker_whose_database_goes_away_says_so_in_one_line(
    workspace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with services.database() as server:
        ground = tuned.ground(storage=server.uri, trials=40, heartbeat_seconds=1, **tuned.ONE_FOLD)
        study = create(ground.study_name(), storage_of(ground.tune), ground.tune)
        with crew(work, [tuned.shift(ground, trials=40, seconds=300)]) as team:
            end = time.monotonic() + 120
            while not finished(study.get_trials()) or not running(study.get_trials()):
                assert team.wait(0.3), capfd.readouterr()
                assert time.monotonic() < end
            server.stop()
            assert not team.wait(120)
            [loss] = team.losses

    assert loss.endswith("ended with status 1")
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith(GONE)]) == 1


def test_each_of_two_workers_sees_gpus_of_its_own(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # whether there are any or not
    searching = Searching(workspace, {"trials": 8, **tuned.ONE_FOLD}, {"workers": 2})
    with searching.started() as process:

        def seen() -> dict[str, set[str]]:
            found: dict[str, set[str]] = {}
            for trial in searching.trials():
                if "devices" in trial.user_attrs:
                    found.setdefault(trial.user_attrs["process"], set()).add(trial.user_attrs["devices"])
            return found

        wait_until(searching, process, lambda: len(seen()) == 2)

    assert sorted(map(sorted, seen().values())) == [["0"], ["1"]]


def test_the_commands_search_apply_and_go_on_and_the_dashboard_shows_the_study(workspace: Path, root: Path) -> None:
    rate = "train.optimizer.learning_rate"
    space = {rate: {"choices": [0.1, 1e-6]}, "train.optimizer.momentum": {"choices": [0.8, 0.9]}}
    recipe = {"share": 1.0, "epochs": 4, "members": 1}
    tuned.write_params(workspace, space=space, trials=3, recipe=recipe, **tuned.ONE_FOLD)
    params = workspace / "params.yaml"
    # hopeless, so that there is something to find
    before = re.sub(r"learning_rate: 0\.1\b", "learning_rate: 0.000001", params.read_text(), count=1)
    params.write_text(before)

    said = command("-m", "speech_emotion", "tune", "--trials", "2", "--workers", "1")

    first = said.splitlines()[0]
    found = re.fullmatch(r"tune: study (tiny-random-\w{10}), in (tuning/studies/\S+\.journal); 1 worker", first)
    assert found, first
    study, journal = found.groups()
    assert re.search(rf"^tune: trial-\d+ of {study}: UAR ", said, re.MULTILINE)
    assert "tune: report in reports/tiny/tuning, and tuning/studies/" in said
    assert len(pd.read_csv("reports/tiny/tuning/trials.csv")) == 2
    assert params.read_text() == before

    with services.optuna_dashboard(journal, workspace) as dashboard:
        with urllib.request.urlopen(f"{dashboard.uri}/api/studies") as answer:
            listed = json.load(answer)["study_summaries"]
        assert [one["study_name"] for one in listed] == [study]

    applied = command("-m", "speech_emotion", "tune", "--apply")
    after = params.read_text()
    winner = json.loads(Path("reports/tiny/tuning/winner.json").read_text())["values"]
    optimizer = read_section("train", TrainSettings).optimizer
    assert {rate: optimizer.learning_rate, "train.optimizer.momentum": optimizer.momentum} == winner
    assert winner[rate] == 0.1
    assert "+    learning_rate: 0.1 " in applied
    assert "may turn out the better ones" in applied, "there was no promotion"
    assert outline(after) == outline(before)

    (workspace / "tuning/tune.py").write_bytes((root / "tuning/tune.py").read_bytes())
    said = command("tuning/tune.py")

    assert said.startswith(f"{first}\n")
    assert "tune: trial-002 complete" in said
    assert "; 3 of 3, best" in said
    assert list(pd.read_csv("reports/tiny/tuning/trials.csv")["state"]) == ["complete"] * 3


def command(*arguments: str) -> str:
    """Run Python to its end, here, and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def outline(text: str) -> list[tuple[str, str]]:
    """Return the keys and the comments of params.yaml, line by line."""
    return [(line.partition(":")[0], line.partition("#")[2]) for line in text.splitlines()]


def test_a_ray_node_that_dies_loses_no_finished_trial(workspace: Path) -> None:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        with services.postgresql() as uri:
            compute = {"workers": None, "backend": "ray", "ray": {"address": cluster.address}}
            # long enough for both nodes to have one at once, however late the second is up
            recipe = {"share": 1.0, "epochs": 4, "members": 1}
            searching = Searching(workspace, {"trials": 8, "storage": uri, "recipe": recipe}, compute)
            with searching.started() as process:
                wait_until(
                    searching,
                    process,
                    lambda: len(finished(searching.trials())) >= 2 and running(searching.trials()) == 2,
                )
                before = {trial.number: trial.value for trial in finished(searching.trials())}
                cluster.remove_node(second, allow_graceful=False)
                assert process.wait(400) == 0, searching.log
            trials = searching.trials()

            counted = finished(trials)
            assert len(counted) == 8
            assert before.items() <= {trial.number: trial.value for trial in counted}.items()
            assert {trial.state.name for trial in counted} == {"COMPLETE"}
            assert "2 workers" in searching.log
            check_mlflow(trials)
    finally:
        cluster.shutdown()
