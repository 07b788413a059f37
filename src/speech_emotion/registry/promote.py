"""Promote a registered version to champion if it passes the gates, and roll back.

The order is: check the gates, write the event, move the alias (`history.settle`), check the alias. A failure before the
event is written changes nothing; a move that was cut off after it is finished by the next command.
"""

import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.config.registry import Mode, PromoteSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder
from speech_emotion.core.process import process_name
from speech_emotion.evaluation.model_card import CARD
from speech_emotion.models.package import Package
from speech_emotion.registry import gates, history
from speech_emotion.registry.compare_versions import predictions_of, read_predictions
from speech_emotion.registry.gates import Gate
from speech_emotion.registry.history import MAX_REASON_LENGTH, ChampionHistory, Kind, PromotionEvent
from speech_emotion.registry.smoke_test import smoke_test
from speech_emotion.registry.versions import CHALLENGER, CODE_DIGEST, Version, find, has_files, registered, versions
from speech_emotion.tracking.connection import model_name
from speech_emotion.tracking.lineage import source_tags
from speech_emotion.tracking.mlflow_run import user

if TYPE_CHECKING:
    from mlflow import MlflowClient

_NOTHING_TO_DO: Final = "is the champion already: nothing to do"
_MOVED: Final = "If this folder was moved or restored, see docs/promotion.md."


@dataclass(frozen=True)
class PromotionResult:
    """The result of a promotion or rollback: `refused` if a gate failed; `lines` say what happened."""

    gates: tuple[Gate, ...]
    refused: bool
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
) -> PromotionResult:
    """Check the gates, and move `champion` to a version (default: the challenger) if all pass.

    `root` is the repository whose HEAD the version is compared with, `mode` overrides that of `settings`, and `force`
    promotes although gates fail; it needs a reason, and is recorded.
    """
    mode = mode or settings.mode
    if force and not reason.strip():
        raise UserError('--force needs a reason: --force --reason "…".')
    with _opened(corpus) as (client, now, notes):
        candidate = _find(client, now.name, CHALLENGER if version is None else str(version))
        if candidate.number == now.champion:
            return PromotionResult((), False, (*notes, f"{candidate.uri}: {_NOTHING_TO_DO}"))
        checked = () if mode == "off" else tuple(_check(client, candidate, now, root, corpus, settings, evaluate))
        failed = tuple(gate for gate in checked if not gate.passed)
        if mode == "dry_run" or (failed and not force):
            lines = [f"failed: {gate.sentence}" for gate in failed]
            count = f"{len(failed)} of {len(checked)} gates failed" if failed else "all gates passed (dry run)"
            lines.append(f"{candidate.uri}: {count}; nothing was changed, the champion is {_version(now.champion)}")
            return PromotionResult(checked, bool(failed), (*notes, *lines))
        if mode == "off":
            notes.append("the gates were skipped")
        gated = {"gates": checked, "forced": bool(failed), "mode": mode}
        return _move(client, root, now, notes, candidate, "promoted", reason, **gated)


def rollback(root: Path, *, corpus: str, to: int | None = None, reason: str = "") -> PromotionResult:
    """Move `champion` back to the previous champion, or to a given version; gates are skipped."""
    with _opened(corpus) as (client, now, notes):
        existing = {one.number for one in versions(client, now.name)}
        number = to or next((number for number in now.former() if number in existing), None)
        if number is None:
            raise UserError(
                f"{now.name}: the champion is {_version(now.champion)}, and the history has no champion before it "
                "whose version exists. `--to VERSION` names any, also to undo a rollback. Nothing was changed."
            )
        target = _find(client, now.name, str(number))
        if target.number == now.champion:
            return PromotionResult((), False, (*notes, f"{target.uri}: {_NOTHING_TO_DO}"))
        return _move(client, root, now, notes, target, "rolled back", reason)


def overview(corpus: str) -> tuple[ChampionHistory, list[str]]:
    """Return the promotion history of a corpus's registered model, and remarks."""
    with _opened(corpus) as (_, now, notes):
        return now, notes


def list_versions(corpus: str) -> tuple[list[tuple[Version, bool]], list[str]]:
    """Return the versions of a corpus's registered model with whether their files exist, newest first, and remarks."""
    with _opened(corpus) as (client, now, notes):
        rows = [(one, has_files(client, one)) for one in versions(client, now.name)]
        if gone := [str(one.number) for one, exists in rows if not exists]:
            notes.append(f"the files of version {', '.join(gone)} are gone. {_MOVED}")
        return rows, notes


@contextmanager
def _opened(corpus: str) -> Iterator[tuple["MlflowClient", ChampionHistory, list[str]]]:
    """Connect to MLflow, finish what was cut off, record a move by hand, and yield what to say about both."""
    name = model_name(corpus)
    advice = "If an event is in the history, the next `speech-emotion history` finishes it; else nothing changed."
    with registered(name, advice) as client:
        now, finished = history.settle(client, name)
        if now.moved_by_hand:  # unless a promotion was in progress
            now = history.read(client, name)
        notes = [
            f"a move to version {event.target} by {event.user} was cut off; it is finished now, the champion is "
            f"{_version(now.champion)}"
            for event in finished
        ]
        if now.moved_by_hand:
            notes.append(
                f"the alias was moved by hand, from {_version(now.expected)} to {_version(now.champion)}, or deleted "
                "with its version. See `speech-emotion history`."
            )
            history.append(client, name, now.by_hand())
            now = history.read(client, name)
        notes += [f"the tag {key} was edited and cannot be read" for key in now.unreadable]
        yield client, now, notes


def _move(
    client: "MlflowClient",
    root: Path,
    now: ChampionHistory,
    notes: Sequence[str],
    target: Version,
    kind: Kind,
    reason: str,
    **gated: Any,
) -> PromotionResult:
    """Write the event, move the alias, and report the champion; `gated` is what the event tells about gates."""
    if len(reason) > MAX_REASON_LENGTH:
        raise UserError(f"a reason has at most {MAX_REASON_LENGTH} characters, this one has {len(reason)}.")
    event = PromotionEvent(
        number=now.next_number,
        unique=uuid.uuid4().hex[:12],
        kind=kind,
        source=now.champion,
        target=target.number,
        user=f"{user()}@{socket.gethostname()}",
        reason=reason,
        commit=source_tags(root)["git.commit"],
        process=process_name(),
        **gated,
    )
    history.append(client, now.name, event)
    after, _ = history.settle(client, now.name)
    what = f"the champion is version {target.number}; before, it was {_version(now.champion)}"
    if after.champion != target.number:
        what = f"someone else moved the champion at the same moment, to {_version(after.champion)}"
    return PromotionResult(event.gates, False, (*notes, f"{now.name}: {what}"))


def _check(
    client: "MlflowClient",
    candidate: Version,
    now: ChampionHistory,
    root: Path,
    corpus: str,
    settings: PromoteSettings,
    evaluate: EvaluateSettings,
) -> Iterator[Gate]:
    """Yield every gate. Code whose digest is not the registered one is not executed."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        source = client.get_model_version_download_uri(candidate.name, str(candidate.number))
        model = Path(download_artifacts(artifact_uri=source, dst_path=folder))
        package = Package.load(model / "artifacts" / "package")
        for compiled in (model / "code").rglob("__pycache__"):
            shutil.rmtree(compiled)  # Python would run it instead of the code
        changed = "" if package.digest == candidate.package_digest else "the package was changed"
        if digest_folder(model / "code") != candidate.tags.get(CODE_DIGEST):
            changed = changed or "the code was changed"
        yield Gate("package", package.digest[:12], "what was registered", not changed, changed)
        if settings.package_mb is not None:
            size = sum(path.stat().st_size for path in package.folder.rglob("*") if path.is_file()) / 1e6
            yield gates.limited("package.mb", size, "at most", settings.package_mb)
        label, milliseconds, error = ("", None, "not tried: the files were changed") if changed else smoke_test(model)
        yield Gate("answers", label or "no answer", "loads in a clean process", not error, error)
        if settings.latency_ms is not None:
            detail = "no answer" if error else ""
            yield gates.limited("latency.ms", milliseconds, "at most", settings.latency_ms, detail)
        if settings.head:
            yield from gates.head_gates(root, corpus, package.folder)
        if settings.card:
            card = package.folder / CARD
            found = card.is_file() and bool(card.read_text(encoding="utf-8", errors="replace").strip())
            yield Gate("card", "found" if found else "missing", f"a {CARD}", found)
        yield from gates.protocol_gates(package.evaluation(), settings)
        if now.champion is not None and settings.against_champion:
            ours = read_predictions(model / "artifacts" / "predictions")
            champion = next(one for one in versions(client, candidate.name) if one.number == now.champion)
            yield from gates.champion_gates(ours, predictions_of(client, champion), settings, evaluate)


def _find(client: "MlflowClient", name: str, wanted: str) -> Version:
    version = find(client, name, wanted)
    if not has_files(client, version):
        raise UserError(f"{version.uri}: its files are gone. {_MOVED} Nothing was changed.")
    return version


def _version(number: int | None) -> str:
    return "none" if number is None else f"version {number}"
