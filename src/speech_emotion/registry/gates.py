"""Takes a version's figures, its champion's and limits; gives gates: values with a name, figure, limit and verdict."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.config.registry import PromoteSettings, ProtocolGates
from speech_emotion.evaluation.bootstrap import differences
from speech_emotion.evaluation.model_card import CARD, ROBUSTNESS
from speech_emotion.registry.evidence import Judged


@dataclass(frozen=True)
class Gate:
    """One question to a version, and its answer.

    Attributes
    ----------
    name : str
        Such as `speaker.uar`.
    figure, limit : str
        As they are shown; a figure that could not be had is `-`.
    passed : bool
    detail : str
        By how much it failed, or what the figure is of.
    """

    name: str
    figure: str
    limit: str
    passed: bool
    detail: str = ""

    @property
    def verdict(self) -> str:
        """The answer in a word."""
        return "passed" if self.passed else "FAILED"

    @property
    def sentence(self) -> str:
        """The gate as one line."""
        return f"{self.name}: {self.figure}, limit {self.limit}" + (f" ({self.detail})" if self.detail else "")


def at_least(name: str, figure: float | None, limit: float, detail: str = "", *, absent: str = "") -> Gate:
    """Return the gate that a figure passes from `limit` up; without a figure it fails, and `absent` says why."""
    if figure is None:
        return Gate(name, "-", f"at least {limit:g}", False, absent)
    short = [] if figure >= limit else [f"{limit - figure:.4f} below"]
    return Gate(name, f"{figure:.4f}", f"at least {limit:g}", not short, "; ".join([*short, *filter(None, [detail])]))


def at_most(name: str, figure: float | None, limit: float, detail: str = "", *, absent: str = "") -> Gate:
    """Return the gate that a figure passes up to `limit`; without a figure it fails, and `absent` says why."""
    if figure is None:
        return Gate(name, "-", f"at most {limit:g}", False, absent)
    over = [] if figure <= limit else [f"{figure - limit:.4f} above"]
    return Gate(name, f"{figure:.4f}", f"at most {limit:g}", not over, "; ".join([*over, *filter(None, [detail])]))


def of_card(package: Path) -> Gate:
    """Return the gate that a package passes whose model card is there and says something."""
    path = package / CARD
    there = path.is_file() and bool(path.read_text(encoding="utf-8", errors="replace").strip())
    detail = "" if there else f"the package holds no {CARD}: `dvc repro package` writes it"
    return Gate("card", "there" if there else "-", f"a {CARD}", there, detail)


def of_protocols(evidence: Mapping[str, Mapping[str, Any]], settings: PromoteSettings) -> list[Gate]:
    """Hold the metrics that a package carries against the limits of each protocol.

    Parameters
    ----------
    evidence : mapping
        By protocol, as `Package.evidence` gives it.
    settings : PromoteSettings
    """
    asked: Iterable[tuple[str, ProtocolGates | None]] = settings.protocols
    return [
        gate
        for protocol, limits in asked
        if limits is not None
        for gate in (
            *_of_protocol(protocol, evidence.get(protocol, {}), limits),
            *_of_conditions(protocol, evidence.get(ROBUSTNESS, {}).get(protocol), limits),
        )
    ]


def against_champion(
    challenger: Mapping[str, Judged],
    champion: Mapping[str, Judged],
    settings: PromoteSettings,
    evaluate: EvaluateSettings,
) -> list[Gate]:
    """Compare two versions on the same utterances of the same split, by the paired bootstrap over words.

    A protocol whose splits differ is refused, which is a failed gate: the figures would be of other utterances.
    """
    return [
        _against(protocol, challenger.get(protocol), champion.get(protocol), evaluate)
        for protocol in settings.against_champion
    ]


def _of_protocol(protocol: str, metrics: Mapping[str, Any], limits: ProtocolGates) -> list[Gate]:
    mean, absent = metrics.get("mean", {}), f"the package carries no such figure of the protocol {protocol}"
    gates = []
    if limits.uar is not None:
        detail = _interval(mean.get("interval", {}).get("uar"))
        gates.append(at_least(f"{protocol}.uar", mean.get("uar"), limits.uar, detail, absent=absent))
    if limits.ece is not None:
        gates.append(at_most(f"{protocol}.ece", mean.get("ece"), limits.ece, absent=absent))
    if limits.recall is not None:
        emotion, recall = _lowest_recall(metrics.get("folds", {}).values())
        gates.append(at_least(f"{protocol}.recall", recall, limits.recall, f"lowest: {emotion}", absent=absent))
    return gates


def _of_conditions(protocol: str, conditions: Any, limits: ProtocolGates) -> list[Gate]:
    """Hold the worst of a protocol's conditions against the limit, where there is one."""
    if limits.drop is None:
        return []
    name, limit = f"{protocol}.drop", limits.drop
    try:
        drops = {str(condition): float(found["drop"]) for condition, found in conditions.items()}
        # what is no number is worse than any
        worst = max(drops, key=lambda condition: (not drops[condition] <= limit, drops[condition]))
    except (AttributeError, KeyError, TypeError, ValueError):
        absent = f"the package carries no evidence of robustness of the protocol {protocol}"
        return [at_most(name, None, limit, absent=absent)]
    return [at_most(name, drops[worst], limit, f"worst: {worst}")]


def _lowest_recall(folds: Iterable[Mapping[str, Any]]) -> tuple[str, float | None]:
    """Return the emotion with the lowest recall, averaged over the folds in which it occurs."""
    by_emotion: dict[str, list[float]] = {}
    for fold in folds:
        for emotion, recall in fold.get("recall", {}).items():
            by_emotion.setdefault(emotion, []).append(recall)
    means = {emotion: float(np.mean(recalls)) for emotion, recalls in by_emotion.items()}
    return min(means.items(), key=lambda item: item[1], default=("", None))


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"95 %: {bounds[0]:.3f} to {bounds[1]:.3f}"


def _against(protocol: str, ours: Judged | None, theirs: Judged | None, evaluate: EvaluateSettings) -> Gate:
    name, limit = f"{protocol}.uar - champion's", "interval reaches 0"
    for judged, whose in ((ours, "this version"), (theirs, "the champion")):
        if judged is None:
            return Gate(name, "-", limit, False, f"{whose} has no predictions of {protocol} in the registry")
    assert ours is not None
    assert theirs is not None
    if ours.split != theirs.split:
        why = f"refused: its split {ours.split[:8]} is not the champion's, {theirs.split[:8]}"
        return Gate(name, "-", limit, False, why)
    if ours.utterances != theirs.utterances or ours.labels != theirs.labels:
        return Gate(name, "-", limit, False, "refused: the predictions are of other utterances or emotions")
    bootstrap = evaluate.bootstrap
    found = differences(
        ours.folds,
        theirs.folds,
        bins=evaluate.calibration_bins,
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
    )["uar"]
    worse = f"worse by {-found.value:.4f} at least {-found.interval.high:.4f}; " if found.interval.high < 0 else ""
    span = f"95 %: {found.interval.low:+.4f} to {found.interval.high:+.4f}"
    return Gate(name, f"{found.value:+.4f}", limit, found.interval.high >= 0, worse + span)
