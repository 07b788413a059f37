"""Promotion on a real MLflow server over PostgreSQL: the whole story, two at once, kill -9."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import promoting
import released
import tracked
from released import gates
from services import mlflow_server, postgresql
from speech_emotion import ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = 20


@dataclass(frozen=True)
class Team:
    """A server, its database, and the workspace from which two good versions and a poor one were published to it."""

    uri: str
    database: str
    folder: Path

    def run(self, *arguments: str, user: str = "ada", folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
        return released.command(*arguments, cwd=folder or self.folder, MLFLOW_TRACKING_URI=self.uri, LOGNAME=user)

    def read(self) -> ledger.Ledger:
        return ledger.read(tracked.client(), tracked.MODEL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with (
        postgresql() as database,
        mlflow_server(tmp_path_factory.mktemp("server"), backend=database) as service,
    ):
        yield service.uri, database


@pytest.fixture(scope="module")
def team(server: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tracked.make_workspace(tmp_path_factory.mktemp("team") / "workspace")
    released.write_params(folder, gates(head=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", server[0])
        yield Team(*server, folder)


def test_the_story_of_a_champion(team: Team, tmp_path: Path) -> None:
    released.release(team.folder, seed=1, skill=0.9)
    first = team.run("promote", "--reason", "the first that we trust")
    assert first.returncode == 0, first.stderr
    assert "head.weights\t" in first.stdout

    released.release(team.folder, seed=2, skill=0.5)
    refused = team.run("promote")
    assert refused.returncode == 1
    assert "failed: random.uar:" in refused.stderr
    assert "failed: random.uar - champion's: -0." in refused.stderr
    assert "the champion stays version 1" in refused.stderr
    assert "Traceback" not in refused.stderr

    forced = team.run("promote", "--force", "--reason", "to see it live", user="bob")
    assert forced.returncode == 0, forced.stderr
    assert team.run("rollback", "--reason", "as we feared").returncode == 0
    tracked.client().set_registered_model_alias(tracked.MODEL, "champion", "2")

    # a second machine: another folder, another user, no mlflow.db
    subprocess.run(["git", "clone", "--quiet", str(team.folder), str(tmp_path / "clone")], check=True)
    seen = team.run("history", "--format", "json", user="grace", folder=tmp_path / "clone")
    told = json.loads(seen.stdout)
    assert [(event["kind"], event["source"], event["target"], event["forced"]) for event in told] == [
        ("promoted", None, 1, False),
        ("promoted", 1, 2, True),
        ("rolled back", 2, 1, False),
        ("by hand", 1, 2, False),
    ]
    assert [event["user"].partition("@")[0] for event in told] == ["ada", "bob", "ada", "unknown"]
    assert [event["reason"] for event in told[:3]] == ["the first that we trust", "to see it live", "as we feared"]
    assert {gate["name"] for gate in told[1]["gates"] if gate["verdict"] == "FAILED"} >= {"random.uar"}
    assert "by hand" in seen.stderr
    back = team.run("rollback", user="grace", folder=tmp_path / "clone")
    assert back.returncode == 0, back.stderr
    assert team.read().champion == 1
    assert "1\tchampion\t" in team.run("registry", folder=tmp_path / "clone").stdout


def test_two_at_once_twenty_times_lose_no_entry_and_end_in_one_champion(team: Team) -> None:
    released.release(team.folder, seed=3, skill=0.9)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    orders = [context.Queue(), context.Queue()]
    workers = [
        context.Process(target=promoting.promote_in_step, args=(str(team.folder), team.uri, barrier, queue))
        for queue in orders
    ]
    for worker in workers:
        worker.start()
    try:
        at_once = 0
        for _ in range(ROUNDS):
            before = team.read()
            for queue, version in zip(orders, sorted({1, 2, 3} - {before.champion}), strict=True):
                queue.put(version)
            barrier.wait(timeout=60)
            barrier.wait(timeout=60)
            after = team.read()
            new = after.events[len(before.events) :]
            assert {event.target for event in new} == {1, 2, 3} - {before.champion}
            assert after.champion == after.expected
            assert {event.state for event in new} == {"done"}
            at_once += len({event.number for event in new}) == 1
    finally:
        for queue in orders:
            queue.put(None)
        for worker in workers:
            worker.join(30)
    assert at_once > ROUNDS / 2, "they hardly ever met"


def test_a_promotion_that_is_killed_before_the_alias_moves_is_finished_by_the_next_command(team: Team) -> None:
    before = team.read()
    target = min({1, 2, 3} - {before.champion})
    engine = create_engine(team.database)
    with engine.connect() as connection:
        # readers pass, and whoever would move the alias waits
        connection.execute(text("LOCK TABLE registered_model_aliases IN EXCLUSIVE MODE"))
        process = _start(team, target)
        _wait(lambda: len(team.read().events) > len(before.events) and _waiting(engine))
        process.send_signal(signal.SIGKILL)
        process.wait()
        # the server would move it for the dead
        with engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted"))
        connection.rollback()
    engine.dispose()
    left = team.read()
    assert (left.champion, left.events[-1].state, left.expected) == (before.champion, "begun", target)

    told = team.run("registry", user="grace")

    assert f"found a move to version {target} that ada@" in told.stderr
    assert "cut off before the alias moved: finished" in told.stderr
    after = team.read()
    assert (after.champion, after.events[-1].state) == (target, "done")
    assert team.run("registry").stderr == ""


@pytest.mark.parametrize("milliseconds", [0, 15, 30, 60])
def test_whenever_it_is_killed_the_next_command_makes_history_and_alias_agree(team: Team, milliseconds: int) -> None:
    before = team.read()
    process = _start(team, min({1, 2, 3} - {before.champion}))
    _wait(lambda: len(team.read().events) > len(before.events))
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert team.run("history").returncode == 0

    after = team.read()
    assert after.champion == after.expected == after.events[-1].target
    assert {event.state for event in after.events} == {"done"}


def _start(team: Team, version: int) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "MLFLOW_TRACKING_URI": team.uri, "LOGNAME": "ada"}
    command = [sys.executable, "-m", "speech_emotion", "promote", str(version), "--mode", "off"]
    return subprocess.Popen(command, cwd=team.folder, env=environment, stdout=subprocess.DEVNULL)


def _waiting(engine) -> bool:  # type: ignore[no-untyped-def]
    with engine.connect() as connection:
        return bool(connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar())


def _wait(until, seconds: float = 60) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.005)
