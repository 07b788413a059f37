"""Searches that train: repeated, killed and resumed, on PostgreSQL, on two Ray nodes, and by the commands.

A search that a test kills has no end of its own (`ENDLESS` trials): the test waits for a state, never for a time.
"""

import json
import os
import re
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
import pandas as pd
import psutil
import pytest
from optuna.trial import FrozenTrial
from sqlalchemy import create_engine, text

from helpers import services, tuned
from helpers.workspaces import descendants, kill, works_in
from speech_emotion.config.base import read_section
from speech_emotion.config.params import ComputeSettings
from speech_emotion.config.training import TrainSettings
from speech_emotion.core.errors import UserError
from speech_emotion.tuning.objective import SearchInputs
from speech_emotion.tuning.search import Outcome, search
from speech_emotion.tuning.study import (
    PROCESS,
    Storage,
    attribute,
    create,
    finished,
    last_attempts,
    reason,
    retry_stale,
    set_attribute,
)

pytest_plugins = ("helpers.cluster_fixtures",)
pytestmark = pytest.mark.slow

ENDLESS = 1000
WHOLE = {"share": 1.0, "epochs": 4}
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from helpers import tuned
from speech_emotion.config.params import ComputeSettings, RaySettings
from speech_emotion.core.process import run_stage
from speech_emotion.tuning.objective import SearchInputs
from speech_emotion.tuning.search import search
def main():
    changes, compute = json.loads(sys.argv[2])
    if compute.get("ray"):
        compute["ray"] = RaySettings(**compute["ray"])
    if search(tuned.inputs(**changes), ComputeSettings(**compute)).interrupted:
        raise KeyboardInterrupt
if __name__ == "__main__":
    run_stage(main)
"""


@dataclass(frozen=True)
class Search:
    """A search in a process of its own, which can be killed and started again."""

    folder: Path
    tune: dict[str, Any]
    compute: dict[str, Any]

    @contextmanager
    def started(self, *, trials: int = ENDLESS) -> Iterator[psutil.Popen]:
        arguments = json.dumps([self.tune | {"trials": trials}, self.compute])
        with open(self.folder / "search.log", "ab") as log:
            process = psutil.Popen(
                [sys.executable, "-c", SCRIPT, str(Path(__file__).parent.parent), arguments],
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

    def run(self, *, trials: int) -> None:
        with self.started(trials=trials) as process:
            assert process.wait(500) == 0, self.log

    def wait_for(self, process: psutil.Popen, *, done: int, running: int) -> None:
        """Wait until so many trials have finished, and so many run."""
        self.wait_until(process, lambda: len(self.finished()) >= done and len(self.running()) >= running)

    def wait_until(self, process: psutil.Popen, condition: Callable[[], bool]) -> None:
        while not condition():
            assert process.poll() is None, f"the search ended early:\n{self.log}"
            time.sleep(0.3)

    @property
    def log(self) -> str:
        return (self.folder / "search.log").read_text()

    @cached_property
    def study(self) -> optuna.Study:
        """The study, opened once: PostgreSQL allows a hundred connections."""
        return open_study(tuned.inputs(**self.tune))

    def finished(self) -> list[FrozenTrial]:
        try:
            return finished(self.study)
        except (KeyError, UserError):
            return []  # the study does not exist yet

    def running(self) -> list[FrozenTrial]:
        trials = self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,)) if self.finished() else []
        return [trial for trial in trials if attribute(trial, PROCESS)]


def open_study(inputs: SearchInputs) -> optuna.Study:
    return create(inputs.study_name(), Storage.of(inputs.tune), inputs.tune)


def run(inputs: SearchInputs) -> tuple[Outcome, optuna.Study]:
    return search(inputs, ComputeSettings(workers=1)), open_study(inputs)


def results(study: optuna.Study) -> list[str]:
    """Return what was tried and the result, in the order of the first attempts."""
    return sorted(f"{trial.params} {trial.value}" for trial in finished(study))


def values(trials: list[FrozenTrial]) -> dict[int, float | None]:
    return {trial.number: trial.value for trial in trials}


def check_mlflow(study: optuna.Study) -> None:
    """Check that every attempt has one run, and that none is running."""
    runs = tuned.trial_runs()
    attempts = [trial.number for trial in study.get_trials() if trial.state.name != "WAITING"]
    assert sorted(int(run.data.tags["trial"]) for run in runs.values()) == attempts
    assert not [name for name, run in runs.items() if run.info.status == "RUNNING"]


def test_kill_and_resume_do_not_change_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pruner = {"kind": "median", "startup_trials": 2, "warmup_epochs": 1}
    changes = tuned.ONE_FOLD | {"sampler": "tpe", "pruner": pruner}
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
        tuned.make_inputs(folder)

    monkeypatch.chdir(folders[0])
    inputs = tuned.inputs(trials=4, **changes)
    _, whole = run(inputs)
    assert whole.trials[0].params == inputs.space.current()
    expected = results(whole)  # its journal has a relative path

    monkeypatch.chdir(folders[1])
    killed = Search(folders[1], changes, {"workers": 1})
    with killed.started() as process:
        killed.wait_for(process, done=2, running=1)
        kill(process, *descendants(process))
    killed.run(trials=4)
    assert "will be retried" in killed.log
    assert len(killed.study.trials) == 5
    assert results(killed.study) == expected


def test_killed_workers_and_parent_lose_no_trial(workspace: Path) -> None:
    searching = Search(workspace, tuned.ONE_FOLD, {"workers": 3})
    with searching.started() as process:
        searching.wait_for(process, done=1, running=3)
        for name in [attribute(trial, PROCESS) for trial in searching.running()][:2]:
            os.kill(int(name.split(":")[1]), signal.SIGKILL)
        # the other one continues and retries the trials of the killed ones
        count = len(searching.finished())
        searching.wait_for(process, done=count + 3, running=1)
        before = values(searching.finished())
        process.kill()
        process.wait()
        others = [one for one in psutil.process_iter() if works_in(one, workspace) and one.pid != os.getpid()]
        assert not psutil.wait_procs(others, 60)[1]

    total = len(before) + 2
    searching.run(trials=total)

    trials = searching.study.trials
    counted = searching.finished()
    assert len(counted) == len(last_attempts(searching.study)) >= total
    assert {trial.state.name for trial in counted} == {"COMPLETE"}
    assert before.items() <= values(counted).items()
    retried = [trial for trial in trials if trial.number not in values(counted)]
    assert len(retried) >= 2
    assert {reason(trial) for trial in retried} == {"process was killed"}
    check_mlflow(searching.study)


def test_ctrl_c_writes_a_report_and_can_be_resumed(workspace: Path) -> None:
    searching = Search(workspace, {"recipe": WHOLE}, {"workers": 1})
    with searching.started() as process:
        searching.wait_for(process, done=1, running=1)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130, searching.log
    assert json.loads((workspace / "reports/tiny/tuning/winner.json").read_text())["nll"] > 0
    total = len(searching.finished()) + 1

    searching.run(trials=total)

    assert len(searching.finished()) == total
    assert {reason(trial) for trial in searching.study.trials} == {"", "interrupted"}
    for word in ("Traceback", "retracing"):
        assert word not in searching.log
    assert re.search(r"tune: trial-\d+, fold \w+: Resuming from epoch", searching.log)


def test_ctrl_c_before_the_first_trial(workspace: Path) -> None:
    searching = Search(workspace, {}, {"workers": 1})
    with searching.started() as process:
        searching.wait_until(process, lambda: "tune: study" in searching.log)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130, searching.log
    assert "Traceback" not in searching.log


def test_failed_and_pruned_trials_are_recorded(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = tuned.inputs().train.optimizer.schedule
    optimizer = "train.optimizer"
    names = (f"{optimizer}.learning_rate", f"{optimizer}.weight_decay", f"{optimizer}.schedule", "train.batch_size")
    choices = ([0.1, 1e-6, 10.0], [0.0, 0.9], [schedule, "constant"], [16, 1])
    space = {name: {"choices": values} for name, values in zip(names, choices, strict=True)}
    pruner = {"kind": "median", "startup_trials": 2, "warmup_epochs": 1}
    inputs = tuned.inputs(space=space, pruner=pruner, trials=4, recipe={"share": 1.0, "epochs": 6})
    # with the first rate and decay, every step makes every weight eight times as large
    tries = ((10.0, 0.9, "constant", 1), (0.1, 0.0, "constant", 16), (1e-6, 0.0, schedule, 16))
    queue = [inputs.space.current(), *(dict(zip(names, values, strict=True)) for values in tries)]
    for parameters in queue:
        open_study(inputs).enqueue_trial(parameters)

    outcome, study = run(inputs)

    assert outcome.winner is not None
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE", "PRUNED"]
    why = reason(study.trials[1])
    assert re.search(r"loss .* epoch \d", why, re.IGNORECASE)
    rows = pd.read_csv(outcome.report / "trials.csv", keep_default_na=False)
    assert list(rows["reason"]) == ["", why, "", ""]
    recorded = tuned.trial_runs()["trial-001"]
    tags = recorded.data.tags
    assert (recorded.info.status, tags["state"], tags["reason"]) == ("FAILED", "failed", why)
    assert f": {why}; 2 of 4, best " in capsys.readouterr().out


def test_search_whose_trials_all_fail(workspace: Path) -> None:
    (workspace / "data/tiny/features/recorded-00000.parquet").write_bytes(b"no parquet")

    with pytest.raises(UserError, match=r"all 4 trials of tiny-speaker-\w+ failed; the first: ArrowInvalid"):
        run(tuned.inputs())


def test_best_trials_are_trained_in_full(workspace: Path) -> None:
    outcome, _ = run(tuned.inputs(promotion={"trials": 1, "share": 0.5}, trials=3))

    assert outcome.winner is not None
    assert outcome.winner.recipe == "trained 3 epochs on all training utterances"
    assert outcome.winner.current_nll is not None
    assert outcome.winner.nll <= outcome.winner.current_nll
    rows = pd.read_csv(outcome.report / "promoted.csv")
    assert list(rows["state"]) == ["COMPLETE"] * len(rows)
    assert len(rows) in {1, 2}, "the best, and the current settings, which may be the best"
    assert rows["nll"].min() == pytest.approx(outcome.winner.nll, rel=1e-5)
    assert rows["nll"].iloc[0] == pytest.approx(outcome.winner.current_nll, rel=1e-5)
    assert len(pd.read_csv(outcome.report / "trials.csv")) == 3


def test_second_objective_gives_a_pareto_front(workspace: Path) -> None:
    space = tuned.SPACE | {"train.network.lstm": {"choices": [[4], [8]]}}

    outcome, study = run(tuned.inputs(**tuned.ONE_FOLD, second="parameters", sampler="nsga_ii", space=space, trials=3))

    assert all(len(trial.values) == 2 and trial.values[1] > 0 for trial in study.trials)
    assert (outcome.report / "pareto_front.png").exists()


def test_trial_without_heartbeat_is_retried(workspace: Path) -> None:
    with services.postgresql() as server:
        settings = tuned.tune_settings(storage=server.uri, heartbeat_seconds=600)
        storage = Storage.of(settings)
        study = create("a-study", storage, settings)
        for trial in (study.ask(), study.ask()):
            set_attribute(trial, PROCESS, "another-host:1:1.00")
            study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
        assert retry_stale(study, storage) == 0

        with create_engine(server.uri).begin() as connection:
            connection.execute(
                text("UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 day' WHERE trial_id = 1")
            )

        assert retry_stale(study, storage) == 1
        assert retry_stale(study, storage) == 0
        assert [trial.state.name for trial in study.trials] == ["FAIL", "RUNNING", "WAITING"]
        assert reason(study.trials[0]) == "process was killed"
        assert [trial.number for trial in last_attempts(study)] == [1, 2]


def test_lost_database_is_one_message_and_the_search_resumes(workspace: Path) -> None:
    with services.postgresql() as server:
        searching = Search(workspace, {"storage": server.uri, **tuned.ONE_FOLD}, {"workers": 1})
        with searching.started() as process:
            searching.wait_for(process, done=1, running=1)
            before = values(searching.finished())
            server.stop()
            assert process.wait(120) == 1, searching.log
        assert "Traceback" not in searching.log
        [message] = {line for line in searching.log.splitlines() if line.startswith("error:")}
        assert "lost the connection to the database postgresql+psycopg2://***@127.0.0.1:" in message

        server.start()
        again = Search(workspace, searching.tune, searching.compute)
        again.run(trials=len(before) + 2)

        assert before.items() <= values(again.finished()).items()
        assert {trial.state.name for trial in again.finished()} == {"COMPLETE"}
        check_mlflow(again.study)


def test_commands_search_apply_and_resume(workspace: Path, root: Path) -> None:
    rate = "train.optimizer.learning_rate"
    space = {rate: {"choices": [0.1, 1e-6]}, "train.optimizer.momentum": {"choices": [0.8, 0.9]}}
    tuned.write_params(workspace, space=space, trials=3, recipe=WHOLE, **tuned.ONE_FOLD)
    params = workspace / "params.yaml"
    # a rate that leaves something to find
    before = re.sub(r"learning_rate: 0\.1\b", "learning_rate: 0.000001", params.read_text(), count=1)
    params.write_text(before)

    output = command("-m", "speech_emotion", "tune", "--trials", "2", "--workers", "1")

    first = output.splitlines()[0]
    found = re.fullmatch(
        r"tune: study (tiny-random-\w{10}), in (tuning/studies/\S+\.journal); folds: all; 1 worker", first
    )
    assert found, first
    study = found[1]
    assert re.search(rf"^tune: trial-\d+ of {study}: validation NLL ", output, re.MULTILINE)
    assert "tune: report in reports/tiny/tuning;" in output
    assert len(pd.read_csv("reports/tiny/tuning/trials.csv")) == 2
    assert params.read_text() == before

    applied = command("-m", "speech_emotion", "tune", "--apply")
    winner = json.loads(Path("reports/tiny/tuning/winner.json").read_text())["values"]
    optimizer = read_section("train", TrainSettings).optimizer
    assert {rate: optimizer.learning_rate, "train.optimizer.momentum": optimizer.momentum} == winner
    assert winner[rate] == 0.1
    assert "+    learning_rate: 0.1 " in applied
    assert params.read_text().count("#") == before.count("#")

    (workspace / "tuning/tune.py").write_bytes((root / "tuning/tune.py").read_bytes())
    output = command("tuning/tune.py")

    assert output.startswith(f"{first}\n")
    assert "tune: trial-002 complete" in output
    assert list(pd.read_csv("reports/tiny/tuning/trials.csv")["state"]) == ["COMPLETE"] * 3


def command(*arguments: str) -> str:
    """Run Python and return what it prints."""
    done = subprocess.run([sys.executable, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dead_ray_node_loses_no_trial(workspace: Path, cluster: Any) -> None:
    second = cluster.add_node(num_cpus=1)
    with services.postgresql() as server:
        compute = {"workers": None, "backend": "ray", "ray": {"address": cluster.address}}
        searching = Search(workspace, {"storage": server.uri, **tuned.ONE_FOLD, "recipe": WHOLE}, compute)
        with searching.started() as process:
            searching.wait_for(process, done=1, running=2)
            before = values(searching.finished())
            cluster.remove_node(second, allow_graceful=False)
            searching.wait_until(process, lambda: len(searching.finished()) >= len(before) + 2)
            process.send_signal(signal.SIGINT)
            assert process.wait(200) == 130, searching.log
        assert "2 workers" in searching.log
        assert before.items() <= values(searching.finished()).items()
        assert {trial.state.name for trial in searching.finished()} == {"COMPLETE"}
        check_mlflow(searching.study)
