"""Takes a registered model and the gates of params.yaml; gives a champion that was moved for a reason, and back.

The order is: look, ask the gates, write the event, move the alias, look again. What fails before the event is written
has changed nothing; what is cut off after it, the next command finishes (see `ledger`).
"""

import getpass
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Final

from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.config.registry import Mode, PromoteSettings
from speech_emotion.core.errors import UserError
from speech_emotion.evaluation.model_card import DESCRIPTION_LIMIT, abridged
from speech_emotion.models.package import Package
from speech_emotion.registry import evidence, gates
from speech_emotion.registry import history as registry_history
from speech_emotion.registry import versions as registry_versions
from speech_emotion.registry.gates import Gate
from speech_emotion.registry.history import Event, Kind, Ledger
from speech_emotion.registry.provenance import of_head
from speech_emotion.registry.smoke_test import rehearse
from speech_emotion.registry.versions import CHALLENGER, PACKAGE_ARTIFACT, Version
from speech_emotion.tracking.event_log import process_name
from speech_emotion.tracking.lineage import source_state
from speech_emotion.tracking.mlflow_run import connect, first_line, fluent, model_name, patience, place

if TYPE_CHECKING:
    from mlflow import MlflowClient

_HEADING: Final = "\n\n## Promotion\n"
"""In a version's description, before what is said of its promotion."""
_HISTORY: Final = "\n\n## Champion\n"
"""In the registered model's description, before its latest events."""
_LATEST: Final = 10


@dataclass(frozen=True)
class Outcome:
    """What came of a promotion or a way back.

    Attributes
    ----------
    version : int
        That was to become champion.
    gates : tuple of Gate
        Empty where none was asked.
    moved : bool
        Whether it is champion now, and was not before.
    refused : bool
        Whether a gate failed and that counted.
    lines : tuple of str
        What happened, for people.
    """

    version: int
    gates: tuple[Gate, ...]
    moved: bool
    refused: bool
    lines: tuple[str, ...]


@dataclass(frozen=True)
class History:
    """The events of a champion, oldest first, and what was noticed while they were read."""

    events: tuple[Event, ...]
    lines: tuple[str, ...]


def promote(
    root: Path,
    *,
    corpus: str,
    settings: PromoteSettings,
    evaluate: EvaluateSettings,
    version: int | None = None,
    mode: Mode | None = None,
    force: bool = False,
    reason: str = "",
) -> Outcome:
    """Ask the gates, and move `champion` to a version if all are passed.

    Parameters
    ----------
    root : Path
        The repository, whose HEAD the version is held against.
    corpus : str
        It names the registered model.
    settings : PromoteSettings
        The gates.
    evaluate : EvaluateSettings
        How intervals are drawn.
    version : int, optional
        None: the challenger.
    mode : {"enforce", "dry run", "off"}, optional
        None: that of `settings`.
    force : bool
        Move it though gates fail; needs a reason, and is recorded as such.
    reason : str
        For whoever reads the history.

    Raises
    ------
    UserError
        There is no such version, its files are gone, MLflow does not answer, or a reason is missing or too long.
    """
    mode = mode or settings.mode
    _check_reason(reason, needed=force)
    with asking(corpus) as (client, name):
        notes = _bring_up_to_date(client, name)
        now = registry_history.read(client, name)
        candidate = _wanted(client, name, version)
        if candidate.number == now.champion:
            line = f"{name} version {candidate.number} is the champion already: nothing to do"
            return Outcome(candidate.number, (), False, False, (*notes, line))
        asked = () if mode == "off" else tuple(_judge(client, candidate, now, root, corpus, settings, evaluate))
        failed = tuple(gate for gate in asked if not gate.passed)
        if mode == "dry run" or (failed and not force):
            lines = (*notes, *_verdict(name, candidate, now, asked, failed, dry=mode == "dry run"))
            return Outcome(candidate.number, asked, False, bool(failed), lines)
        _require_files(client, candidate)
        event = _event(now, "promoted", candidate.number, reason, asked, forced=bool(failed), mode=mode, root=root)
        return _carry_out(client, name, event, notes)


def rollback(root: Path, *, corpus: str, to: int | None = None, reason: str = "") -> Outcome:
    """Move `champion` back to the version before, or to a given one, at once and without gates.

    Raises
    ------
    UserError
        There is no version to go back to, its files are gone, or MLflow does not answer.
    """
    _check_reason(reason, needed=False)
    with asking(corpus) as (client, name):
        notes = _bring_up_to_date(client, name)
        now = registry_history.read(client, name)
        existing = registry_versions.versions(client, name)
        target = _way_back(now, existing, to)
        if target.number == now.champion:
            line = f"{name} version {target.number} is the champion already: nothing to do"
            return Outcome(target.number, (), False, False, (*notes, line))
        _require_files(client, target)
        return _carry_out(client, name, _event(now, "rolled back", target.number, reason, root=root), notes)


def history(corpus: str) -> History:
    """Return the events of the champion; a move by hand that nobody has written down yet is the last of them."""
    with asking(corpus) as (client, name):
        cut_off = _finish(client, name)
        found = registry_history.observe(client, name)
        events = found.events
        lines = list(cut_off)
        if found.moved_by_hand:
            events = (*events, found.by_hand())
            lines.append(_said_of_hand(found))
        lines += [f"the tag {key} was edited and cannot be read" for key in found.unreadable]
        return History(events, tuple(lines))


@dataclass(frozen=True)
class Glance:
    """The registered model at a glance: its versions, newest first, whether each one's files are there, and remarks."""

    name: str
    versions: tuple[tuple[Version, bool], ...]
    lines: tuple[str, ...]


def glance(corpus: str) -> Glance:
    """Return the versions of a corpus's registered model."""
    with asking(corpus) as (client, name):
        lines = _finish(client, name)
        found = registry_history.observe(client, name)
        if found.moved_by_hand:
            lines.append(_said_of_hand(found))
        rows = tuple((one, registry_versions.is_there(client, one)) for one in registry_versions.versions(client, name))
        gone = [str(one.number) for one, there in rows if not there]
        if gone:
            lines.append(
                f"the files of version {', '.join(gone)} are gone. If this folder was moved or restored, "
                "`speech-emotion registry relocate` finds them again."
            )
        return Glance(name, rows, tuple(lines))


@contextmanager
def asking(corpus: str) -> Iterator[tuple["MlflowClient", str]]:
    """Give MLflow's client and the registered model's name; turn what goes wrong into one line."""
    where, name = place(), model_name(corpus)
    nothing = UserError(f"{name}: nothing is registered at {where.uri} yet. `dvc repro` does it, or `publish`.")
    if where.is_missing:
        raise nothing
    try:
        with patience(5, retries=1):
            client = connect(where)
            known = client.search_registered_models(f"name = '{name}'")
    except _troubles() as error:
        raise UserError(f"MLflow at {where.uri} does not do it ({first_line(error)}). Nothing was changed.") from error
    if not known:
        raise nothing
    try:
        with patience(20, retries=1), fluent(where):
            yield client, name
    except _troubles() as error:
        raise UserError(
            f"MLflow at {where.uri} does not do it ({first_line(error)}). What was not written down has changed "
            "nothing; what was, the next `speech-emotion history` finishes."
        ) from error


def _troubles() -> tuple[type[Exception], ...]:
    """Return what is raised where MLflow, or what it keeps its data in, does not answer or refuses."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, requests.RequestException, SQLAlchemyError, OSError


def _bring_up_to_date(client: "MlflowClient", name: str) -> list[str]:
    """Finish what was cut off, write down what was moved by hand, and return what is to be said of either."""
    lines = _finish(client, name)
    found = registry_history.observe(client, name)
    if found.moved_by_hand:
        registry_history.append(client, name, found.by_hand())
        _describe_model(client, name)
        lines.append(_said_of_hand(found))
    return lines


def _finish(client: "MlflowClient", name: str) -> list[str]:
    before = registry_history.read(client, name)
    if not before.begun:
        return []
    after, finished = registry_history.settle(client, name)
    _describe(client, name, finished)
    return [
        f"found a move to version {event.target} that {event.user} began at {_when(event)} and that was cut off "
        f"{'before' if before.champion != event.target else 'after'} the alias moved: finished, the champion is "
        f"{_of(after.champion)}"
        for event in finished
    ]


def _said_of_hand(found: Ledger) -> str:
    return (
        f"the alias was moved by hand, from {_of(found.expected)} to {_of(found.champion)}, or went with a deleted "
        "version: the history shows it"
    )


def _carry_out(client: "MlflowClient", name: str, event: Event, notes: Sequence[str]) -> Outcome:
    """Write the event, move the alias, and tell what the champion is in the end."""
    assert event.target is not None
    registry_history.append(client, name, event)
    try:
        after, finished = registry_history.settle(client, name)
        _describe(client, name, finished)
    except _troubles() as error:
        raise UserError(
            f"{name}: the move to version {event.target} is written down, and MLflow at {place().uri} did not let it "
            f"be finished ({first_line(error)}). When it answers again, the next `speech-emotion history` finishes it."
        ) from error
    moved = after.champion == event.target
    line = f"{name}: the champion is version {event.target} now; before, it was {_of(event.source)}"
    if not moved:
        line = (
            f"{name}: somebody moved the champion at the same moment, to {_of(after.champion)}; both are in the history"
        )
    return Outcome(event.target, event.gates, moved, False, (*notes, line))


def _event(
    now: Ledger,
    kind: Kind,
    target: int,
    reason: str,
    asked: tuple[Gate, ...] = (),
    *,
    forced: bool = False,
    mode: str = "",
    root: Path,
) -> Event:
    number = now.events[-1].number + 1 if now.events else 1
    source = source_state(root)
    return Event(
        number=number,
        unique=uuid.uuid4().hex[:12],
        kind=kind,
        source=now.champion,
        target=target,
        seconds=int(time.time()),
        user=_who(),
        reason=reason,
        gates=asked,
        forced=forced,
        mode=mode,
        commit="" if source.source_dirty is None else source.commit,
        process=process_name(),
    )


def _judge(
    client: "MlflowClient",
    candidate: Version,
    now: Ledger,
    root: Path,
    corpus: str,
    settings: PromoteSettings,
    evaluate: EvaluateSettings,
) -> Iterator[Gate]:
    """Yield every gate's answer, the cheap ones first."""
    with tempfile.TemporaryDirectory() as folder:
        model = _download(client, candidate, Path(folder), "")
        package = Package.load(model / "artifacts" / PACKAGE_ARTIFACT)
        registered = package.digest == candidate.package_digest
        detail = "" if registered else f"it was registered as {candidate.package_digest[:12]}"
        yield Gate("package", package.digest[:12], "what was registered", registered, detail)
        if settings.package_mb is not None:
            size = sum(path.stat().st_size for path in package.folder.rglob("*") if path.is_file()) / 1e6
            yield gates.at_most("package.mb", size, settings.package_mb)
        answer = rehearse(model)
        said = answer.label or "no answer"
        yield Gate("answers", said, "loads in a clean process", not answer.trouble, answer.trouble)
        if settings.latency_ms is not None:
            why = "it was not answered"
            yield gates.at_most("latency.ms", answer.milliseconds, settings.latency_ms, absent=why)
        if settings.head:
            yield from of_head(root, corpus, package.folder)
        if settings.card:
            yield gates.of_card(package.folder)
        yield from gates.of_protocols(package.evidence(), settings)
        if now.champion is not None and settings.against_champion:
            ours = evidence.read(model / "artifacts" / evidence.FOLDER)
            theirs = predictions_of(client, candidate.name, now.champion, Path(folder))
            yield from gates.against_champion(ours, theirs, settings, evaluate)


def predictions_of(client: "MlflowClient", name: str, number: int, folder: Path) -> dict[str, evidence.Judged]:
    """Fetch what a version answered, by protocol; nothing where it was made by hand, or its files are gone."""
    from mlflow.artifacts import list_artifacts

    version = next(one for one in registry_versions.versions(client, name) if one.number == number)
    source = client.get_model_version_download_uri(name, str(number))
    path = f"artifacts/{evidence.FOLDER}"
    if not registry_versions.is_there(client, version) or not list_artifacts(artifact_uri=f"{source}/{path}"):
        return {}
    return evidence.read(_download(client, version, folder, path))


def _download(client: "MlflowClient", version: Version, folder: Path, path: str) -> Path:
    """Fetch a version's model, or a folder of it."""
    from mlflow.artifacts import download_artifacts

    _require_files(client, version)
    source = client.get_model_version_download_uri(version.name, str(version.number))
    target = folder / str(version.number)
    target.mkdir()
    return Path(download_artifacts(artifact_uri=f"{source}/{path}".rstrip("/"), dst_path=str(target)))


def _require_files(client: "MlflowClient", version: Version) -> None:
    if not registry_versions.is_there(client, version):
        raise UserError(
            f"{version.uri}: its files are gone from where MLflow has them. If this folder was moved or restored: "
            "`speech-emotion registry relocate`. Nothing was changed."
        )


def _wanted(client: "MlflowClient", name: str, number: int | None) -> Version:
    """Return a version by its number, or the challenger."""
    existing = registry_versions.versions(client, name)
    if number is not None:
        found = next((one for one in existing if one.number == number), None)
    else:
        found = next((one for one in existing if CHALLENGER in one.aliases), None)
    if found is None:
        known = ", ".join(str(one.number) for one in reversed(existing)) or "none"
        wanted = f"version {number}" if number is not None else f"version with the alias {CHALLENGER}"
        raise UserError(f"{name}: there is no {wanted}. It has: {known}. Nothing was changed.")
    if not found.package_digest:
        raise UserError(f"{found.uri}: it was not made by `speech-emotion publish`, and holds no package.")
    return found


def _way_back(now: Ledger, existing: Sequence[Version], to: int | None) -> Version:
    by_number = {one.number: one for one in existing}
    if to is not None:
        if to not in by_number:
            known = ", ".join(map(str, sorted(by_number))) or "none"
            raise UserError(f"{now.name}: there is no version {to}. It has: {known}. Nothing was changed.")
        return by_number[to]
    former = now.former()
    found = next((by_number[number] for number in former if number in by_number), None)
    if found is None:
        gone = ", ".join(map(str, former))
        why = f"version {gone} was deleted" if former else "the history has no champion before it"
        raise UserError(
            f"{now.name}: the champion is {_of(now.champion)}, and there is none to go back to: {why}. "
            "`--to VERSION` names one. Nothing was changed."
        )
    return found


def _describe(client: "MlflowClient", name: str, finished: Sequence[Event]) -> None:
    """Write what was finished onto the versions and the model, for those who look at MLflow's pages."""
    for event in finished:
        if event.target is not None and event.kind == "promoted":
            _describe_version(client, name, event.target, markdown(event))
    if finished:
        _describe_model(client, name)


def _describe_version(client: "MlflowClient", name: str, number: int, promotion: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        before = (client.get_model_version(name, str(number)).description or "").partition(_HEADING)[0]
        told = (_HEADING + promotion)[:DESCRIPTION_LIMIT]
        # of the card, what then still has room
        text = abridged(before, DESCRIPTION_LIMIT - len(told)) + told
        client.update_model_version(name, str(number), description=text)
    except MlflowException as error:
        # it was deleted meanwhile; the history has it all
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _describe_model(client: "MlflowClient", name: str) -> None:
    """Write the latest events onto the registered model: its tags, which have all of them, are shown as JSON."""
    before = (client.get_registered_model(name).description or "").partition(_HISTORY)[0]
    latest = registry_history.read(client, name).events[: -_LATEST - 1 : -1]
    rows = [
        f"| {_when(event)} | {event.user} | {event.kind}{', forced' if event.forced else ''} "
        f"| {_number(event.source)} | {_number(event.target)} | {_cell(shorten(event.reason, 200, placeholder=' …'))} |"
        for event in latest
        if event.state != "void"
    ]
    head = ["| when | who | what | from | to | why |", "|---|---|---|---|---|---|"]
    note = "`speech-emotion history` shows all, with every gate's figure."
    text = "\n".join([*head, *rows, "", note]) + "\n"
    client.update_registered_model(name, description=(before + _HISTORY + text)[:DESCRIPTION_LIMIT])


def markdown(event: Event) -> str:
    """Return a promotion and its gates as Markdown."""
    how = "**forced** by" if event.forced else "by"
    lines = [f"Promoted {_when(event)}, {how} {event.user}" + (f": {event.reason}" if event.reason else "")]
    if event.mode == "off":
        lines.append("\nNo gate was asked.")
    if event.gates:
        lines += ["", "| gate | figure | limit | verdict | |", "|---|---|---|---|---|"]
        lines += [
            f"| {gate.name} | {gate.figure} | {gate.limit} | {gate.verdict} | {_cell(gate.detail)} |"
            for gate in event.gates
        ]
    return "\n".join(lines) + "\n"


def _verdict(
    name: str, candidate: Version, now: Ledger, asked: Sequence[Gate], failed: Sequence[Gate], *, dry: bool
) -> Iterator[str]:
    for gate in failed:
        yield f"failed: {gate.sentence}"
    stays = f"nothing was changed: the champion stays {_of(now.champion)}"
    if failed:
        yield f"{name} version {candidate.number}: {len(failed)} of {len(asked)} gates failed; {stays}"
    elif dry:
        yield f"{name} version {candidate.number}: all {len(asked)} gates passed; this was a dry run, {stays}"


def _check_reason(reason: str, *, needed: bool) -> None:
    if needed and not reason.strip():
        raise UserError('--force needs a reason that others can read later: --force --reason "…".')
    if len(reason) > registry_history.LONGEST_REASON:
        raise UserError(f"a reason has {registry_history.LONGEST_REASON} characters at most, this one {len(reason)}.")


def _cell(text: str) -> str:
    """Return a text that stays within its cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())


def _number(version: int | None) -> str:
    return "-" if version is None else str(version)


def _of(version: int | None) -> str:
    return "none" if version is None else f"version {version}"


def _when(event: Event) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(event.seconds))


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # in a container a user may be no more than a number
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
