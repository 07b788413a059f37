"""Check a registered version against the limits of params.yaml.

A gate has a name, a figure, a limit and a verdict. The gates of a protocol use the metrics of its test part, which the
package carries from `evaluate`: promotion is a decision on test metrics. They are meant as a last check of one
candidate, not for choosing among many; whoever promotes the best of several versions by them needs fresh test data to
know how good it is.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.config.registry import PromoteSettings, ProtocolGates
from speech_emotion.evaluation.bootstrap import Interval, differences
from speech_emotion.evaluation.model_card import CARD, ROBUSTNESS
from speech_emotion.registry.compare_versions import ProtocolPredictions, why_incomparable


@dataclass(frozen=True)
class Gate:
    """A check of a version: its name (such as `speaker.uar`), figure, limit, verdict, and the margin or the reason."""

    name: str
    figure: str
    limit: str
    passed: bool
    detail: str = ""

    @property
    def verdict(self) -> str:
        """The verdict as a word."""
        return "passed" if self.passed else "FAILED"

    @property
    def sentence(self) -> str:
        """The gate as one line."""
        return f"{self.name}: {self.figure}, limit {self.limit}" + (f" ({self.detail})" if self.detail else "")


def limited(
    name: str, figure: float | None, bound: Literal["at least", "at most"], limit: float, detail: str = ""
) -> Gate:
    """Return a gate for a figure and its limit; without a figure it fails, and `detail` says why."""
    wanted = f"{bound} {limit:g}"
    if figure is None:
        return Gate(name, "-", wanted, False, detail)
    passed = figure >= limit if bound == "at least" else figure <= limit
    beyond = f"{abs(figure - limit):.4f} {'below' if bound == 'at least' else 'above'}"
    return Gate(name, f"{figure:.4f}", wanted, passed, "; ".join(filter(None, ["" if passed else beyond, detail])))


def card_gate(package: Path) -> Gate:
    """Check that a package has a model card that is not empty."""
    path = package / CARD
    found = path.is_file() and bool(path.read_text(encoding="utf-8", errors="replace").strip())
    detail = "" if found else f"the package has no {CARD}; `dvc repro package` writes it"
    return Gate("card", "found" if found else "-", f"a {CARD}", found, detail)


def protocol_gates(evidence: Mapping[str, Mapping[str, Any]], settings: PromoteSettings) -> list[Gate]:
    """Check the test metrics that a package carries, by protocol, against the limits of each protocol."""
    limits: Iterable[tuple[str, ProtocolGates | None]] = settings.protocols
    return [
        gate
        for protocol, limit in limits
        if limit is not None
        for gate in (
            *_metric_gates(protocol, evidence.get(protocol, {}), limit),
            *_robustness_gates(protocol, evidence.get(ROBUSTNESS, {}).get(protocol), limit),
        )
    ]


def champion_gates(
    challenger: Mapping[str, ProtocolPredictions],
    champion: Mapping[str, ProtocolPredictions],
    settings: PromoteSettings,
    evaluate: EvaluateSettings,
) -> list[Gate]:
    """Compare two versions on the same test utterances, with the paired bootstrap over words.

    The gate of a protocol fails if the 95 % interval of the UAR difference lies below 0, or if the splits differ.
    """
    return [
        _champion_gate(protocol, challenger.get(protocol), champion.get(protocol), evaluate)
        for protocol in settings.against_champion
    ]


def _metric_gates(protocol: str, metrics: Mapping[str, Any], limits: ProtocolGates) -> Iterator[Gate]:
    mean, missing = metrics.get("mean", {}), f"the package has no such metric of the protocol {protocol}"
    if limits.uar is not None:
        interval = mean.get("interval", {}).get("uar")
        detail = f"95 %: {Interval.from_list(interval).text()}" if interval else ""
        yield limited(f"{protocol}.uar", mean.get("uar"), "at least", limits.uar, detail if "uar" in mean else missing)
    if limits.ece is not None:
        yield limited(f"{protocol}.ece", mean.get("ece"), "at most", limits.ece, "" if "ece" in mean else missing)
    if limits.recall is not None:
        emotion, recall = _lowest_recall(metrics.get("folds", {}).values())
        detail = missing if recall is None else f"lowest: {emotion}"
        yield limited(f"{protocol}.recall", recall, "at least", limits.recall, detail)


def _robustness_gates(protocol: str, conditions: Any, limits: ProtocolGates) -> Iterator[Gate]:
    """Check the largest drop of UAR over the conditions of the robustness table."""
    if limits.drop is None:
        return
    name, limit = f"{protocol}.drop", limits.drop
    try:
        drops = {str(condition): float(found["drop"]) for condition, found in conditions.items()}
        # NaN counts as the largest drop
        worst = max(drops, key=lambda condition: (not drops[condition] <= limit, drops[condition]))
    except (AttributeError, KeyError, TypeError, ValueError):
        yield limited(name, None, "at most", limit, f"the package has no robustness table of the protocol {protocol}")
    else:
        yield limited(name, drops[worst], "at most", limit, f"worst: {worst}")


def _lowest_recall(folds: Iterable[Mapping[str, Any]]) -> tuple[str, float | None]:
    """Return the emotion with the lowest recall, averaged over the folds in which it occurs."""
    by_emotion: dict[str, list[float]] = {}
    for fold in folds:
        for emotion, recall in fold.get("recall", {}).items():
            by_emotion.setdefault(emotion, []).append(recall)
    means = {emotion: float(np.mean(recalls)) for emotion, recalls in by_emotion.items()}
    return min(means.items(), key=lambda item: item[1], default=("", None))


def _champion_gate(
    protocol: str, ours: ProtocolPredictions | None, theirs: ProtocolPredictions | None, evaluate: EvaluateSettings
) -> Gate:
    name, limit = f"{protocol}.uar - champion's", "interval reaches 0"
    if ours is None or theirs is None:
        which = "this version" if ours is None else "the champion"
        return Gate(name, "-", limit, False, f"{which} has no predictions of {protocol} in the registry")
    if why := why_incomparable(ours, theirs):
        return Gate(name, "-", limit, False, f"refused: {why}")
    found = differences(ours.folds, theirs.folds, settings=evaluate)["uar"]
    high = found.interval.high
    worse = f"worse by {-found.value:.4f}, at least {-high:.4f}; " if high < 0 else ""
    # an unknown interval fails: nothing shows that the version is not worse
    return Gate(name, f"{found.value:+.4f}", limit, high >= 0, f"{worse}95 %: {found.interval.text('+.4f')}")
