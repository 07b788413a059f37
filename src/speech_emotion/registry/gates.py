"""Check a registered version against the limits of params.yaml.

The gates of a protocol use the metrics of its test part, which the package carries from `evaluate`: they are a last
check of one candidate, not for choosing among many (docs/promotion.md).
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.config.registry import PromoteSettings
from speech_emotion.evaluation.bootstrap import Interval, differences
from speech_emotion.evaluation.model_card import ROBUSTNESS
from speech_emotion.registry.compare_versions import ProtocolPredictions, why_incomparable
from speech_emotion.tracking.lineage import git

_HEAD_LIMIT: Final = "as in HEAD's dvc.lock"


@dataclass(frozen=True)
class Gate:
    """A check of a version: its name (such as `speaker.uar`), figure, limit, verdict, and the margin or the reason."""

    name: str
    figure: str
    limit: str
    passed: bool
    detail: str = ""

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


def protocol_gates(evaluation: Mapping[str, Mapping[str, Any]], settings: PromoteSettings) -> Iterator[Gate]:
    """Check the test metrics that a package carries, by protocol, against the limits of each protocol."""
    for protocol, limits in settings.protocols.items():
        report, conditions = evaluation.get(protocol, {}), evaluation.get(ROBUSTNESS, {}).get(protocol, {})
        mean = report.get("mean", {})
        interval = mean.get("interval", {}).get("uar")
        emotion, recall = _lowest_recall(report.get("folds", {}).values())
        condition, drop = _largest_drop(conditions)
        figures: dict[str, tuple[float | None, Literal["at least", "at most"], str]] = {
            "uar": (mean.get("uar"), "at least", f"95 %: {Interval.from_list(interval).text()}" if interval else ""),
            "ece": (mean.get("ece"), "at most", ""),
            "recall": (recall, "at least", f"lowest: {emotion}"),
            "drop": (drop, "at most", f"worst: {condition}"),
        }
        for name, limit in limits or ():
            if limit is not None:
                figure, bound, detail = figures[name]
                missing = f"the package has no such metric of the protocol {protocol}"
                yield limited(f"{protocol}.{name}", figure, bound, limit, missing if figure is None else detail)


def champion_gates(
    challenger: Mapping[str, ProtocolPredictions],
    champion: Mapping[str, ProtocolPredictions],
    settings: PromoteSettings,
    evaluate: EvaluateSettings,
) -> Iterator[Gate]:
    """Compare two versions on the same test utterances, with the paired bootstrap.

    The gate of a protocol fails if the 95 % interval of the UAR difference lies below 0, or if the splits differ.
    """
    for protocol in settings.against_champion:
        ours, theirs = challenger.get(protocol), champion.get(protocol)
        figure, passed = "-", False
        if ours is None or theirs is None:
            which = "this version" if ours is None else "the champion"
            detail = f"{which} has no predictions of {protocol} in the registry"
        elif why := why_incomparable(ours, theirs):
            detail = f"refused: {why}"
        else:
            found = differences(ours.folds, theirs.folds, settings=evaluate)["uar"]
            high = found.interval.high
            worse = "significantly worse; " if high < 0 else ""
            # an unknown interval fails: nothing shows that the version is not worse
            figure, passed = f"{found.value:+.4f}", high >= 0
            detail = f"{worse}95 %: {found.interval.text('+.4f')}"
        yield Gate(f"{protocol}.uar - champion's", figure, "interval reaches 0", passed, detail)


def head_gates(root: Path, corpus: str, package: Path) -> list[Gate]:
    """Compare a registered version's package with HEAD of the repository `root`.

    `head.weights`: the package is, byte for byte, the output of the stage `package`. `head.data`: each stage that
    led to it read what the previous stage wrote. `head.params`: each such stage ran with HEAD's params.yaml.
    """
    lock, params = _committed(root, "dvc.lock"), _committed(root, "params.yaml") or {}
    # DVC keeps stages in dvc.lock that dvc.yaml no longer has
    defined = (_committed(root, "dvc.yaml") or {}).get("stages")
    stages = {
        name: stage for name, stage in ((lock or {}).get("stages") or {}).items() if defined is None or name in defined
    }
    outputs = [(name, output) for name, stage in stages.items() for output in stage.get("outs", ())]
    makers = {output["path"]: (name, str(output.get("md5", ""))) for name, output in outputs}
    path = f"models/{corpus}/package"
    if path not in makers:
        why = "there is no commit with a dvc.lock" if lock is None else f"HEAD's dvc.lock has no {path}: commit it"
        return [Gate(f"head.{name}", "-", _HEAD_LIMIT, False, why) for name in ("weights", "data", "params")]
    found, (stage, expected) = folder_md5(package), makers[path]
    chain = list(dict.fromkeys(_upstream(stage, stages, makers)))
    stale = [
        f"{name} read another {dep['path']}"
        for name in chain
        for dep in stages[name].get("deps", ())
        if dep["path"] in makers and makers[dep["path"]][1] != dep.get("md5", "")
    ]
    changed = [
        f"{name} ran with another {key}"
        for name in chain
        for key, value in (stages[name].get("params", {}).get("params.yaml") or {}).items()
        if _at(params, key) != value
    ]
    other = "" if found == expected else f"it has {expected[:12]}: commit dvc.lock, or check out the version's commit"
    return [
        Gate("head.weights", found[:12], _HEAD_LIMIT, not other, other),
        Gate("head.data", "stale" if stale else "current", _HEAD_LIMIT, not stale, "; ".join(stale[:3])),
        Gate("head.params", "changed" if changed else "equal", _HEAD_LIMIT, not changed, "; ".join(changed[:3])),
    ]


def folder_md5(folder: Path) -> str:
    """Return the MD5 that DVC gives a folder: that of its list of files, each with its own MD5."""
    files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    listed = [{"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": name} for name, path in files]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def _lowest_recall(folds: Iterable[Mapping[str, Any]]) -> tuple[str, float | None]:
    """Return the emotion with the lowest recall, averaged over the folds in which it occurs."""
    means = pd.DataFrame([fold.get("recall", {}) for fold in folds]).mean()
    return (str(means.idxmin()), float(means.min())) if len(means) else ("", None)


def _largest_drop(conditions: Mapping[str, Any]) -> tuple[str, float | None]:
    """Return the condition of the robustness table under which UAR drops most; NaN is more than any drop."""
    drops = {name: math.nan if found["drop"] is None else float(found["drop"]) for name, found in conditions.items()}
    return max(drops.items(), key=lambda item: (math.isnan(item[1]), item[1]), default=("", None))


def _upstream(stage: str, stages: Mapping[str, Any], makers: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield stage
    for dep in stages[stage].get("deps", ()):
        for path, (maker, _) in makers.items():
            # a stage may depend on a folder that several stages fill
            if maker != stage and f"{path}/".startswith(f"{dep['path']}/"):
                yield from _upstream(maker, stages, makers)


def _at(values: Any, key: str) -> Any:
    return reduce(lambda found, part: found.get(part) if isinstance(found, Mapping) else None, key.split("."), values)


def _committed(root: Path, name: str) -> dict[str, Any] | None:
    """Return a YAML file of HEAD; None if there is none."""
    text = git(root, "show", f"HEAD:./{name}")
    try:
        return None if text is None else YAML(typ="safe", pure=True).load(text)
    except (ValueError, YAMLError):
        return None
