import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.utils.file_utils import local_file_uri_to_path
from typer.testing import CliRunner

from helpers import released, tracked
from helpers.released import ask, gates
from speech_emotion.cli import app
from speech_emotion.config.registry import ProtocolGates
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder
from speech_emotion.core.process import process_name
from speech_emotion.registry import history, versions
from speech_emotion.registry.gates import Gate
from speech_emotion.registry.history import PromotionEvent
from speech_emotion.registry.promote import list_versions, overview, rollback

pytest_plugins = ("helpers.mlflow_fixtures",)

NAME = tracked.MODEL
GONE = "elsewhere:1:1.00"
"""A process of another host."""


@pytest.fixture
def workspace(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, which is the working folder; the versions' files stay where they were registered."""
    folder = tmp_path / "copy"
    shutil.copytree(three, folder, ignore=shutil.ignore_patterns("mlruns"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LOGNAME", "ada")
    return folder


def champion() -> int | None:
    return read().champion


def back(to: int | None = None, reason: str = "") -> int | None:
    rollback(Path(), corpus=tracked.CORPUS, to=to, reason=reason)
    return champion()


def events() -> tuple[PromotionEvent, ...]:
    return overview(tracked.CORPUS)[0].events


def moves() -> list[tuple[str, int | None, int | None]]:
    return [(event.kind, event.source, event.target) for event in events()]


def read() -> history.ChampionHistory:
    return history.read(tracked.client(), NAME)


def begin(target: int, process: str, *, seconds: int = 0) -> PromotionEvent:
    """Write what a promotion writes before it moves the alias."""
    now = read()
    number = now.events[-1].number + 1 if now.events else 1
    event = PromotionEvent(
        number, "abc", "promoted", now.champion, target, "bob@elsewhere", process=process, seconds=seconds
    )
    history.append(tracked.client(), NAME, event)
    return event


def test_promotion_is_recorded(workspace: Path) -> None:
    outcome = ask(1, reason="the first")

    assert (outcome.refused, champion()) == (False, 1)
    [event] = events()
    assert (event.kind, event.source, event.target, event.reason) == ("promoted", None, 1, "the first")
    assert event.user.startswith("ada@")
    assert event.commit == tracked.git(workspace, "rev-parse", "HEAD")
    assert [(gate.name, gate.passed) for gate in event.gates] == [
        ("package", True),
        ("package.mb", True),
        ("answers", True),
        ("random.uar", True),
    ]
    assert (event.forced, event.state) == (False, "done")


def test_worse_challenger_is_refused(workspace: Path) -> None:
    ask(1)
    before = tracked.client().get_registered_model(NAME)

    outcome = ask()

    assert (outcome.refused, champion()) == (True, 1)
    failed = {gate.name: gate for gate in outcome.gates if not gate.passed}
    assert set(failed) == {"random.uar", "random.uar - champion's", "speaker.uar - champion's"}
    assert failed["random.uar"].detail.startswith("0.")
    assert "below" in failed["random.uar"].detail
    assert failed["random.uar - champion's"].detail.startswith("significantly worse; 95 %: -0.")
    assert outcome.lines[-1].endswith("nothing was changed, the champion is version 1")
    after = tracked.client().get_registered_model(NAME)
    assert (after.tags, after.aliases) == (before.tags, before.aliases)


def test_force_needs_a_reason_and_is_recorded(workspace: Path) -> None:
    # a version that passes is not recorded as forced
    ask(2, force=True, reason="sure")
    with pytest.raises(UserError, match="--force needs a reason"):
        ask(force=True, reason=" ")

    assert not ask(force=True, reason="measured by hand").refused

    assert [(event.forced, event.reason) for event in events()] == [(False, "sure"), (True, "measured by hand")]


def test_modes(workspace: Path) -> None:
    assert (ask(1, mode="dry_run").refused, champion(), events()) == (False, None, ())
    assert ask(3, mode="dry_run", force=True, reason="x").refused

    ask(3, mode="off")
    assert (champion(), events()[-1].mode, events()[-1].gates) == (3, "off", ())
    assert "already" in ask(3).lines[-1]
    assert len(events()) == 1


def test_every_limit_is_checked(workspace: Path) -> None:
    strict = {
        "random": ProtocolGates(uar=None, ece=None, recall=None, drop=0.2),
        "word": ProtocolGates(uar=0.1, ece=None, recall=None, drop=None),
        "speaker": ProtocolGates(uar=None, ece=0.0001, recall=1.0, drop=None),
    }

    outcome = ask(1, settings=gates(protocols=strict, package_mb=0.000001, latency_ms=0.0001, card=True, head=True))

    failed = {gate.name for gate in outcome.gates if not gate.passed}
    of_protocols = {"random.drop", "word.uar", "speaker.ece", "speaker.recall"}
    assert failed == {"package.mb", "latency.ms", "card", "head.weights", *of_protocols}
    released.release(workspace, seed=4, skill=0.9, card="# Card\n", drops={"noise at 20 dB": 0.1})
    robust = {"random": ProtocolGates(uar=None, ece=None, recall=None, drop=0.2)}
    assert not ask(settings=gates(protocols=robust, card=True, head=True)).refused


def test_other_splits_are_refused(workspace: Path) -> None:
    released.release(workspace, seed=4, skill=0.95, split="b" * 64)
    ask(1)

    failed = [gate for gate in ask().gates if not gate.passed]

    assert [gate.name for gate in failed] == ["random.uar - champion's", "speaker.uar - champion's"]
    assert failed[0].detail == "refused: their splits differ (bbbbbbbb, aaaaaaaa)"


def model_of(version: int) -> Path:
    """Return the folder of a registered model."""
    return Path(local_file_uri_to_path(tracked.client().get_model_version_download_uri(NAME, str(version))))


def release_with_code(workspace: Path, line: str) -> None:
    """Register a version whose code ends in one more line, as if that had been released."""
    number = str(released.release(workspace, seed=4, skill=0.9))
    code = model_of(int(number)) / "code"
    with open(code / "speech_emotion" / "inference" / "recognizer.py", "a") as file:
        file.write(f"\n{line}\n")
    tracked.client().set_model_version_tag(NAME, number, versions.CODE_DIGEST, digest_folder(code))


def test_model_that_cannot_answer_is_refused(workspace: Path) -> None:
    release_with_code(workspace, "raise RuntimeError('no such voice')")

    outcome = ask(settings=gates(latency_ms=1000.0))

    assert (outcome.refused, champion()) == (True, None)
    assert [gate.sentence for gate in outcome.gates if not gate.passed] == [
        "answers: no answer, limit loads in a clean process (RuntimeError: no such voice)",
        "latency.ms: -, limit at most 1000 (no answer)",
    ]


@pytest.mark.parametrize(
    ("changed", "detail"),
    [("artifacts/package/note.txt", "the package was"), ("code/speech_emotion/__init__.py", "the code was")],
)
def test_changed_files_are_not_executed(workspace: Path, changed: str, detail: str) -> None:
    number = released.release(workspace, seed=4, skill=0.9)
    (model_of(number) / changed).write_text(f"open({str(workspace / 'executed')!r}, 'w')\n")

    outcome = ask(mode="dry_run")

    assert (outcome.refused, champion()) == (True, None)
    failed = [gate for gate in outcome.gates if not gate.passed]
    assert [gate.name for gate in failed] == ["package", "answers"]
    assert failed[0].detail.startswith(detail)
    assert not (workspace / "executed").exists()


def test_registered_code_gets_no_credentials(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    told = workspace / "environment"
    release_with_code(workspace, f"import os; open({str(told)!r}, 'w').write(repr(dict(os.environ)))")

    ask(mode="dry_run")

    assert "TOKEN" not in told.read_text()


def test_rollback_is_repeatable(workspace: Path) -> None:
    for version in (1, 2, 3):
        ask(version, mode="off")

    assert (back(reason="worse in the field"), back()) == (2, 1)
    with pytest.raises(UserError, match="the history has no champion before it"):
        back()
    assert (back(to=3), back()) == (3, 1)
    assert events()[3].reason == "worse in the field"


def test_deleted_versions(workspace: Path) -> None:
    for version in (1, 2, 3):
        ask(version, mode="off")
    tracked.client().delete_model_version(NAME, "2")
    assert back() == 1

    ask(3, mode="off")
    tracked.client().delete_model_version(NAME, "3")
    assert moves()[-1] == ("by hand", 3, None)
    assert back() == 1
    assert moves()[3:] == [("rolled back", 3, 1), ("promoted", 1, 3), ("by hand", 3, None), ("rolled back", None, 1)]


def test_move_by_hand_is_shown_and_recorded(workspace: Path) -> None:
    ask(1, mode="off")
    tracked.client().set_registered_model_alias(NAME, "champion", "3")

    found, [remark] = overview(tracked.CORPUS)
    assert [(event.kind, event.source, event.target) for event in found.events][-1] == ("by hand", 1, 3)
    assert "by hand, from version 1 to version 3" in remark

    ask(2, mode="off")
    assert moves()[1:] == [("by hand", 1, 3), ("promoted", 3, 2)]
    assert back() == 3


@pytest.mark.parametrize("moved", ["before", "after"])
def test_cut_off_promotion_is_finished(workspace: Path, moved: str) -> None:
    ask(1, mode="off")
    event = begin(2, GONE)
    if moved == "after":
        tracked.client().set_registered_model_alias(NAME, "champion", "2")

    found, remarks = overview(tracked.CORPUS)

    assert (champion(), found.events[-1]) == (2, replace(event, state="done"))
    assert remarks == [
        "a move to version 2 by bob@elsewhere was cut off; it is finished now, the champion is version 2"
    ]
    assert overview(tracked.CORPUS)[1] == []
    assert back() == 1


def test_promotion_of_another_host_is_not_declared_done(workspace: Path) -> None:
    ask(1, mode="off")
    begin(2, GONE, seconds=int(time.time()))

    found, remarks = overview(tracked.CORPUS)

    assert (champion(), remarks, found.events[-1].state) == (2, [], "begun")


def test_begun_promotion_of_a_deleted_version_is_void(workspace: Path) -> None:
    ask(1, mode="off")
    begin(2, GONE)
    tracked.client().delete_model_version(NAME, "2")

    assert [event.state for event in events()] == ["done", "void"]
    assert (champion(), ask(3, mode="off").refused, back()) == (1, False, 1)


def test_two_promotions_at_once(workspace: Path) -> None:
    ask(1, mode="off")
    now, mine = read(), process_name()
    for unique, target in (("b", 2), ("a", 3)):
        event = PromotionEvent(2, unique, "promoted", now.champion, target, "bob@x", process=mine)
        history.append(tracked.client(), NAME, event)
    # the later one moved the alias first, the earlier one over it
    tracked.client().set_registered_model_alias(NAME, "champion", "3")

    after, _ = history.settle(tracked.client(), NAME)

    assert (after.champion, [event.target for event in after.events]) == (2, [1, 3, 2])
    assert back() == 1


def test_unreadable_tag_is_named(workspace: Path) -> None:
    ask(1, mode="off")
    tracked.client().set_registered_model_tag(NAME, "history.000000.x", "{")

    found, remarks = overview(tracked.CORPUS)

    assert (len(found.events), remarks) == (1, ["the tag history.000000.x was edited and cannot be read"])


def test_long_event_loses_details_first(workspace: Path) -> None:
    many = tuple(Gate(f"gate {number}", "0.5", "at least 1", number > 3, "x" * 200) for number in range(40))
    event = replace(begin(2, GONE), gates=many, reason="why " * 250)

    history.append(tracked.client(), NAME, event)

    [written] = read().events
    assert (written.reason, len(written.gates), written.gates[0].detail) == (event.reason, 40, "")


MISTAKES = [
    (lambda: ask(), "there is no alias 'challenger'"),
    (lambda: ask(7), "there is no version '7'. Versions: 1, 2, 3."),
    (lambda: back(), "the champion is none, and the history has no champion before it"),
    (lambda: back(to=9), "there is no version '9'"),
    (lambda: ask(1, reason="x" * 1001), "at most 1000 characters"),
]


@pytest.mark.parametrize(("act", "message"), MISTAKES)
def test_mistakes_are_one_message(workspace: Path, act, message: str) -> None:  # type: ignore[no-untyped-def]
    tracked.client().delete_registered_model_alias(NAME, "challenger")
    with pytest.raises(UserError, match=message):
        act()
    assert (champion(), read().events) == (None, ())


def test_champion_without_files(workspace: Path) -> None:
    client = tracked.client()
    client.create_model_version(NAME, source=str(workspace / "nowhere"))
    client.set_registered_model_alias(NAME, "champion", "4")

    failed = [gate for gate in ask(1).gates if not gate.passed]

    assert [gate.detail for gate in failed] == [
        "the champion has no predictions of random in the registry",
        "the champion has no predictions of speaker in the registry",
    ]
    assert not ask(1, force=True, reason="its files are lost").refused
    assert champion() == 1


def test_versions_without_files_are_refused(workspace: Path) -> None:
    number = released.release(workspace, seed=4, skill=0.9)
    shutil.rmtree(model_of(number))

    for act in (lambda: ask(number), lambda: ask(number, mode="off"), lambda: back(to=number)):
        with pytest.raises(UserError, match=r"files are gone.*promotion\.md.*Nothing was changed"):
            act()
    assert read().events == ()
    assert f"the files of version {number} are gone" in list_versions(tracked.CORPUS)[1][0]


def test_unreachable_files_are_not_called_gone(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = tracked.client()
    digest = {versions.PACKAGE_DIGEST: "d" * 64}
    client.create_model_version(NAME, source="http://127.0.0.1:9/api/2.0/mlflow-artifacts/artifacts/a", tags=digest)

    for act in (lambda: ask(4), lambda: ask(4, mode="off"), lambda: back(to=4), lambda: list_versions(tracked.CORPUS)):
        with pytest.raises(UserError, match=r"MLflow at .* failed"):
            act()
    assert (champion(), read().events) == (None, ())


def test_refused_move_is_finished_by_the_next_command(workspace: Path) -> None:
    ask(1, mode="off")
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        trigger = "BEFORE UPDATE ON registered_model_aliases BEGIN SELECT RAISE(ABORT, 'no'); END"
        database.execute(f"CREATE TRIGGER no {trigger}")

    with pytest.raises(UserError, match="the next `speech-emotion history` finishes it"):
        ask(2, mode="off")
    left = read()
    assert (left.champion, [event.state for event in left.events]) == (1, ["done", "begun"])

    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("DROP TRIGGER no")
    assert "cut off; it is finished now" in overview(tracked.CORPUS)[1][0]
    assert (champion(), moves()) == (2, [("promoted", None, 1), ("promoted", 1, 2)])


def test_commands(workspace: Path) -> None:
    released.write_params(workspace, gates())

    def run(*arguments: str, status: int = 0) -> tuple[str, str]:
        done = CliRunner().invoke(app, arguments)
        assert (done.exit_code, "Traceback" in done.stderr) == (status, False)
        return done.stdout, done.stderr

    assert run("history")[1] == "no version was ever champion\n"
    assert "the champion is version 1; before, it was none" in run("promote", "1")[0]
    out, err = run("promote", status=1)
    assert ("random.uar\t0." in out, "failed: random.uar" in err) == (True, True)
    run("promote", "--force", "--reason", "two\nlines and a\ttab")
    assert "the champion is version 1; before, it was version 3" in run("rollback")[0]
    rows = [line.split("\t") for line in run("history")[0].splitlines()[1:]]
    assert [row[2] for row in rows] == ["promoted", "promoted, forced", "rolled back"]
    assert rows[1][-1] == "two lines and a tab"
    registered = run("registry")[0]
    aliases = [line.split("\t")[:2] for line in registered.splitlines()[1:]]
    assert aliases == [["3", "challenger"], ["2", "-"], ["1", "champion"]]
    [line] = [line.split("\t") for line in run("compare", "1", "2")[0].splitlines() if line.startswith("random\tuar")]
    first, second, difference = map(float, line[2:5])
    assert difference == pytest.approx(first - second, abs=2e-4)
    # the name is all that they need of params.yaml
    (workspace / "params.yaml").unlink()
    assert run("registry", "--corpus", tracked.CORPUS)[0] == registered
    told = json.loads(run("history", "--corpus", tracked.CORPUS, "--format", "json")[0])
    assert (told[1]["reason"], told[1]["gates"][0]["name"]) == ("two\nlines and a\ttab", "package")
    run("rollback", "--corpus", "another", status=1)
