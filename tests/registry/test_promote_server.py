"""Promotion on a real MLflow server over PostgreSQL: all commands, two at once, kill -9."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from helpers import released, tracked
from helpers.released import gates
from helpers.services import mlflow_server, postgresql
from speech_emotion.registry import history

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROUNDS = 10


@dataclass(frozen=True)
class Team:
    """A server, its database, and a workspace that published three versions to it, of which the first is champion."""

    uri: str
    database: str
    folder: Path

    def run(self, *arguments: str, user: str = "ada", folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "speech_emotion", *arguments]
        environment = {**os.environ, "MLFLOW_TRACKING_URI": self.uri, "LOGNAME": user}
        place = folder or self.folder
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)

    def read(self) -> history.ChampionHistory:
        return history.read(tracked.client(), tracked.MODEL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with postgresql() as database, mlflow_server(tmp_path_factory.mktemp("server"), backend=database.uri) as service:
        yield service.uri, database.uri


@pytest.fixture(scope="module")
def team(server: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tracked.make_workspace(tmp_path_factory.mktemp("team") / "workspace")
    released.write_params(folder, gates(head=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", server[0])
        for seed in (1, 2, 3):
            released.release(folder, seed=seed, skill=0.9)
        released.ask(1, mode="off")
        yield Team(*server, folder)


def test_story_of_a_champion(team: Team, tmp_path: Path) -> None:
    first = team.run("promote", "--reason", "the first that we trust")
    assert first.returncode == 0, first.stderr
    assert len(re.findall(r"^head\..*\tpassed", first.stdout, re.MULTILINE)) == 3

    released.release(team.folder, seed=4, skill=0.5)
    before = team.read()
    refused = team.run("promote")
    assert (refused.returncode, "the champion is version 3" in refused.stderr) == (1, True)
    assert team.read() == before

    assert team.run("promote", "--force", "--reason", "to see it live", user="bob").returncode == 0
    assert team.run("rollback", "--reason", "as we feared").returncode == 0
    tracked.client().set_registered_model_alias(tracked.MODEL, "champion", "4")

    # a second machine: another folder, another user, no mlflow.db, no data, no models
    subprocess.run(["git", "clone", "--quiet", str(team.folder), str(tmp_path / "clone")], check=True)
    seen = team.run("history", "--format", "json", user="grace", folder=tmp_path / "clone")
    assert "the alias was moved by hand, from version 3 to version 4" in seen.stderr
    events = json.loads(seen.stdout)[1:]
    assert [(event["kind"], event["source"], event["target"], event["forced"]) for event in events] == [
        ("promoted", 1, 3, False),
        ("promoted", 3, 4, True),
        ("rolled back", 4, 3, False),
        ("by hand", 3, 4, False),
    ]
    assert [event["user"].partition("@")[0] for event in events] == ["ada", "bob", "ada", "unknown"]
    assert team.run("rollback", user="grace", folder=tmp_path / "clone").returncode == 0
    assert team.read().champion == 3


def test_concurrent_promotions(team: Team) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    orders = [context.Queue(), context.Queue()]
    given = (str(team.folder), team.uri, barrier)
    workers = [context.Process(target=released.promote_in_step, args=(*given, queue)) for queue in orders]
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


def test_kill_before_the_alias_moves(team: Team) -> None:
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

    output = team.run("registry", user="grace")

    assert f"a move to version {target} by ada@" in output.stderr
    assert "cut off; it is finished now" in output.stderr
    after = team.read()
    assert (after.champion, after.events[-1].state) == (target, "done")
    assert team.run("registry").stderr == ""


@pytest.mark.parametrize("milliseconds", [0, 15, 30, 60])
def test_kill_at_any_time(team: Team, milliseconds: int) -> None:
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
