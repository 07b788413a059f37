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
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from sqlalchemy import create_engine, text

from helpers import promoting, released, tracked
from helpers.released import gates
from helpers.services import mlflow_server, postgresql
from helpers.workspaces import DemoRun, Workspace, commit, kill
from speech_emotion.registry import history

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROUNDS = 20
DEMO = "speech-emotion-demo"


@dataclass(frozen=True)
class Team:
    """A server, its database, and a workspace that published three versions to it, of which the first is champion."""

    uri: str
    database: str
    folder: Path

    def run(self, *arguments: str, user: str = "ada", folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
        return released.command(*arguments, cwd=folder or self.folder, MLFLOW_TRACKING_URI=self.uri, LOGNAME=user)

    def read(self) -> history.ChampionHistory:
        return history.read(tracked.client(), tracked.MODEL)


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
        for seed in (1, 2, 3):
            released.release(folder, seed=seed, skill=0.9)
        released.ask(1, mode="off")
        yield Team(*server, folder)


@pytest.fixture
def demo(server: tuple[str, str], demo_run: DemoRun, tmp_path: Path) -> Iterator[Workspace]:
    """A copy of the demo's clone after its run, with gates that a model passes that has learned, and the server."""
    copy = demo_run.copy(tmp_path / "workspace")
    released.write_gates(copy.folder, gates(head=True))
    yield as_(replace(copy, environment={**copy.environment, "MLFLOW_TRACKING_URI": server[0]}), "ada")
    kill(*copy.processes())


def test_story_of_a_champion(demo: Workspace, tmp_path: Path) -> None:
    train(demo, epochs=20)
    first = demo.run("speech-emotion", "promote", "--reason", "the first that we trust")
    for gate in ("package", "answers", "head.weights", "head.data", "head.params", "random.uar"):
        assert re.search(rf"^{re.escape(gate)}\t.*\tpassed", first, re.MULTILINE), first

    train(demo, epochs=1)
    before = published(demo).tags
    refused = demo.run("speech-emotion", "promote", status=1)
    for gate in ("random.uar", "random.uar - champion's", "speaker.uar - champion's"):
        assert f"failed: {gate}: " in refused, refused
    assert "the champion is still version 1" in refused
    assert "Traceback" not in refused
    assert published(demo).tags == before

    as_(demo, "bob").run("speech-emotion", "promote", "--force", "--reason", "to see it live")
    demo.run("speech-emotion", "rollback", "--reason", "as we feared")
    client(demo).set_registered_model_alias(DEMO, "champion", "2")

    # a second machine: another folder, another user, no mlflow.db, no data, no models
    subprocess.run(["git", "clone", "--quiet", str(demo.folder), str(tmp_path / "clone")], check=True)
    elsewhere = replace(as_(demo, "grace"), folder=tmp_path / "clone")
    seen = elsewhere.run("speech-emotion", "history", "--format", "json")
    assert "the alias was moved by hand, from version 1 to version 2" in seen
    told = json.loads(seen[seen.index("[\n") :])
    assert [(event["kind"], event["source"], event["target"], event["forced"]) for event in told] == [
        ("promoted", None, 1, False),
        ("promoted", 1, 2, True),
        ("rolled back", 2, 1, False),
        ("by hand", 1, 2, False),
    ]
    assert [event["user"].partition("@")[0] for event in told] == ["ada", "bob", "ada", "unknown"]
    assert [event["reason"] for event in told[:3]] == ["the first that we trust", "to see it live", "as we feared"]
    assert {gate["name"] for gate in told[1]["gates"] if gate["verdict"] == "FAILED"} >= {"random.uar"}
    elsewhere.run("speech-emotion", "rollback")
    assert published(demo).aliases["champion"] == "1"
    assert re.search(r"^1\tchampion\t", elsewhere.run("speech-emotion", "registry"), re.MULTILINE)


def test_concurrent_promotions(team: Team) -> None:
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
    assert "cut off before the alias moved; it is finished now" in output.stderr
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


def as_(workspace: Workspace, user: str) -> Workspace:
    """Return the workspace as another user has it."""
    return replace(workspace, environment={**workspace.environment, "LOGNAME": user})


def train(workspace: Workspace, *, epochs: int) -> None:
    """Train for so many epochs, evaluate, package, publish, commit."""
    params = workspace.folder / "params.yaml"
    changed = re.sub(r"^  epochs: \d+", f"  epochs: {epochs}", params.read_text(), flags=re.MULTILINE)
    params.write_text(re.sub(r"^  batch_size: \d+", "  batch_size: 16", changed, flags=re.MULTILINE))
    workspace.run("dvc", "repro", "publish")
    commit(workspace.folder)


def client(workspace: Workspace) -> MlflowClient:
    return MlflowClient(workspace.environment["MLFLOW_TRACKING_URI"])


def published(workspace: Workspace) -> RegisteredModel:
    return client(workspace).get_registered_model(DEMO)


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
