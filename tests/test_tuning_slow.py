"""Searches that train: the same trials twice, killed and resumed, on PostgreSQL, on two Ray nodes, by the commands."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

import services
import tuned
from speech_emotion import tracking
from speech_emotion.errors import UserError
from speech_emotion.settings.compute import ComputeSettings
from speech_emotion.tuning.search import Outcome, search
from speech_emotion.tuning.study import distinct, finished, open_study, reason, storage_of
from workspaces import descendants, kill, works_in

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tuned
from speech_emotion.settings.compute import ComputeSettings, RaySettings
from speech_emotion.tuning.search import search
if __name__ == "__main__":
    asked = json.loads(sys.argv[2])
    if asked["compute"].get("ray"):
        asked["compute"]["ray"] = RaySettings(**asked["compute"]["ray"])
    outcome = search(tuned.ground(**asked["tune"]), ComputeSettings(**asked["compute"]))
    sys.exit(130 if outcome.interrupted else 0)
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
                [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), asked],
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
    return sum(trial.state.name == "RUNNING" and "process" in trial.user_attrs for trial in trials)


def test_a_seed_gives_the_same_trials_twice_also_across_a_resume_and_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"sampler": "tpe", "trials": 6, "pruner": {"kind": "median", "startup_trials": 2, "warmup_epochs": 1}}
    for name in ("whole", "resumed", "killed"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    _, whole = run(tmp_path / "whole", **asked)
    assert whole[0].params == tuned.ground().space.current()

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
    searching = Searching(workspace, {"trials": 8}, {"workers": 4})
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
    client = tracking.connect(tracking.place())
    found = client.get_experiment_by_name("speech-emotion-tiny-tuning")
    assert found is not None
    runs = client.search_runs([found.experiment_id], "tags.kind = 'trial'")
    numbers = sorted(int(run.data.tags["trial"]) for run in runs)
    assert numbers == [trial.number for trial in trials]
    assert not [run.info.run_name for run in runs if run.info.status == "RUNNING"]


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


def test_a_trial_that_fails_is_recorded_and_one_that_is_hopeless_is_pruned(workspace: Path) -> None:
    # unclipped, without normalisation and with a rate of 10, the loss soon is no number
    space = {
        "train.optimizer.learning_rate": {"choices": [0.1, 1e-6, 10.0]},
        "train.label_smoothing": {"choices": [0.1]},
    }
    pruner = {"kind": "median", "startup_trials": 1, "warmup_epochs": 1}
    ground = tuned.ground(space=space, pruner=pruner, trials=4, recipe={"share": 1.0, "epochs": 6, "members": 1})
    lost = [{"train.optimizer.learning_rate": rate, "train.label_smoothing": 0.1} for rate in (0.1, 1e-6)]

    outcome = search(ground, ComputeSettings(workers=1), queue=lost)

    trials = open_study(ground.study_name(), storage_of(ground.tune)).get_trials()
    assert outcome.winner is not None
    assert len(finished(trials)) == 4
    assert "PRUNED" in {trial.state.name for trial in trials}


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


def test_a_second_objective_gives_a_pareto_front(workspace: Path) -> None:
    space = tuned.SPACE | {"train.network.lstm": {"layers": [1], "units": [4, 8]}}
    for second in ("parameters", "latency_ms"):
        outcome, trials = run(workspace, second=second, space=space, trials=3)

        assert all(len(trial.values) == 2 and trial.values[1] > 0 for trial in trials)
        assert (outcome.report / "pareto_front.png").exists()


def test_four_workers_on_postgresql_lose_no_trial(workspace: Path) -> None:
    with services.postgresql() as uri:
        searching = Searching(workspace, {"trials": 8, "storage": uri}, {"workers": 4})
        searching.run()
        trials = searching.trials()

        assert [trial.number for trial in trials] == list(range(8))
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * 8, [reason(trial) for trial in trials]
        for word in ("lock", "Error", "Traceback"):
            assert word not in searching.log
        assert len({trial.user_attrs["process"] for trial in trials}) == 4
        check_mlflow(trials)


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
