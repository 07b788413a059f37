"""Write the descriptions of versions and models that MLflow's pages show, as Markdown."""

import time
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.evaluation.bootstrap import Interval
from speech_emotion.models.package import Package
from speech_emotion.registry import history
from speech_emotion.registry.history import PromotionEvent

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_LENGTH: Final = 5000
"""The length of a description in MLflow's databases."""

_PROMOTION: Final = "\n\n## Promotion\n"
_CHAMPION: Final = "\n\n## Champion\n"
_EVENTS: Final = 10
_COLUMNS: Final = {"uar": "UAR", "accuracy": "accuracy", "ece": "ECE"}


def describe_package(package: Package, commit: str) -> str:
    """Return the description of a new version: what it is, how good it is, and how to load it."""
    description = package.description
    rows = [
        f"| {protocol} | {' | '.join(_figure(report['mean'], metric) for metric in _COLUMNS)} |"
        for protocol, report in package.evidence().items()
        if "mean" in report
    ]
    head = [f"| protocol | {' | '.join(_COLUMNS.values())} |", "|---|---|---|---|"]
    lines = [
        f"Recognizes {', '.join(description.labels)} in speech. Trained on the corpus {description.corpus} "
        f"(protocol {description.protocol}), commit {commit[:12] or 'unknown'}, software {description.software}.",
        "",
        *([*head, *rows] if rows else ["The package carries no metrics."]),
        "",
        "Means over the folds of each protocol, with 95 % intervals, of models that were trained in the same way. "
        "For new speakers, only the speaker protocol counts.",
        "",
        f"Package `{package.digest}`. Its model card is the artifact `artifacts/package/MODEL_CARD.md`.",
    ]
    return "\n".join(lines)


def describe_events(client: "MlflowClient", name: str, events: Sequence[PromotionEvent]) -> None:
    """Add promotions to the descriptions of their versions, and the latest events to that of the model."""
    for event in events:
        if event.target is not None and event.kind == "promoted":
            _describe_version(client, name, event)
    if events:
        _describe_model(client, name)


def _describe_version(client: "MlflowClient", name: str, event: PromotionEvent) -> None:
    from mlflow.exceptions import MlflowException

    try:
        before = (client.get_model_version(name, str(event.target)).description or "").partition(_PROMOTION)[0]
        text = before + _PROMOTION + _promotion(event)
        client.update_model_version(name, str(event.target), description=text[:MAX_LENGTH])
    except MlflowException as error:
        # it was deleted in the meantime; the history has the event
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _describe_model(client: "MlflowClient", name: str) -> None:
    before = (client.get_registered_model(name).description or "").partition(_CHAMPION)[0]
    latest = [event for event in reversed(history.read(client, name).events) if event.state != "void"][:_EVENTS]
    rows = [
        f"| {_when(event)} | {event.user} | {event.kind}{', forced' if event.forced else ''} | {event.source or '-'} "
        f"| {event.target or '-'} | {_cell(shorten(event.reason, 200, placeholder=' …'))} |"
        for event in latest
    ]
    head = ["| when | who | what | from | to | why |", "|---|---|---|---|---|---|"]
    note = "`speech-emotion history` shows all events, with the figures of every gate."
    text = before + _CHAMPION + "\n".join([*head, *rows, "", note]) + "\n"
    client.update_registered_model(name, description=text[:MAX_LENGTH])


def _promotion(event: PromotionEvent) -> str:
    how = "**forced** by" if event.forced else "by"
    lines = [f"Promoted {_when(event)}, {how} {event.user}" + (f": {event.reason}" if event.reason else "")]
    if event.mode == "off":
        lines.append("\nGates were skipped.")
    if event.gates:
        lines += ["", "| gate | figure | limit | verdict | detail |", "|---|---|---|---|---|"]
        lines += [
            f"| {gate.name} | {gate.figure} | {gate.limit} | {gate.verdict} | {_cell(gate.detail)} |"
            for gate in event.gates
        ]
    return "\n".join(lines) + "\n"


def _figure(mean: Mapping[str, Any], metric: str) -> str:
    if metric not in mean:
        return "-"
    bounds = mean.get("interval", {}).get(metric)
    return f"{mean[metric]:.3f}" + ("" if bounds is None else f" ({Interval.from_list(bounds).text()})")


def _cell(text: str) -> str:
    """Return a text that stays within its cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())


def _when(event: PromotionEvent) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(event.seconds))
