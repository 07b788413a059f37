"""Takes a workspace's reports; gives the predictions that go into the registry with a package, and reads them there.

A package carries metrics, which tell nothing about a difference between two models: a paired interval needs what each
answered to every utterance. So a registered version has both, and another machine needs no workspace to compare.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.core.errors import UserError
from speech_emotion.core.io import write_json

if TYPE_CHECKING:
    from speech_emotion.evaluation.bootstrap import Predictions

FOLDER: Final = "predictions"
"""What the registered model calls them among its artifacts."""

SPLITS: Final = "splits.json"
"""The digest of each protocol's split."""


@dataclass(frozen=True)
class Judged:
    """What a version answered to a protocol's judged utterances.

    Attributes
    ----------
    split : str
        The digest of the protocol's split: of its training part too.
    utterances : tuple of (str, str)
        Fold and id of each, in the order of the predictions.
    labels : tuple of str
    folds : tuple of Predictions
    """

    split: str
    utterances: tuple[tuple[str, str], ...]
    labels: tuple[str, ...]
    folds: "tuple[Predictions, ...]"


def gather(root: Path, corpus: str, evidence: Mapping[str, Mapping[str, Any]], target: Path) -> None:
    """Copy the predictions that a package's evidence was computed from into the folder `target`, which is made.

    Parameters
    ----------
    root : Path
        The workspace.
    corpus : str
    evidence : mapping
        Metrics by protocol, as `Package.evidence` gives them. A report that says something else is of another model,
        and its predictions are left out.
    target : Path
    """
    target.mkdir()
    splits = {}
    for protocol, metrics in evidence.items():
        report = root / "reports" / corpus / "protocols" / protocol
        split = _split(root / "models" / corpus / "protocols" / protocol)
        if split is None or _json(report / "metrics.json") != metrics or not (report / "predictions.csv").is_file():
            continue
        shutil.copyfile(report / "predictions.csv", target / f"{protocol}.csv")
        splits[protocol] = split
    write_json(target / SPLITS, splits)


def read(folder: Path) -> dict[str, Judged]:
    """Read what `gather` wrote, by protocol; a version that was registered without has none.

    Raises
    ------
    UserError
        A file is damaged.
    """
    splits = _json(folder / SPLITS) or {}
    return {protocol: judged(folder / f"{protocol}.csv", str(split)) for protocol, split in splits.items()}


def judged(path: Path, split: str, *, fold: str | None = None) -> Judged:
    """Read a predictions.csv.

    Parameters
    ----------
    path : Path
    split : str
        The digest of the split that the utterances are of.
    fold : str, optional
        The fold that is wanted; None: all of them.

    Raises
    ------
    UserError
        The file is damaged, or has no such fold.
    """
    import pandas as pd

    # publish, which gathers, needs none of the libraries that reports are made with
    from speech_emotion.evaluation.protocol_report import as_predictions

    try:
        rows = pd.read_csv(path, dtype={"fold": str, "id": str, "text": str}, keep_default_na=False)
        rows = rows[rows["fold"] == (fold or rows["fold"])]
        rows = rows.sort_values(["fold", "id"], kind="stable").reset_index(drop=True)
        labels = tuple(str(name).removeprefix("p_") for name in rows.columns if str(name).startswith("p_"))
        parts = [part for _, part in rows.groupby("fold", sort=True)]
        folds = tuple(as_predictions(part, labels) for part in parts)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path.name}, the predictions of a model in MLflow, is damaged ({error}).") from None
    if not folds:
        raise UserError(f"{path.name}, the predictions of a model in MLflow, has none of fold '{fold}'.")
    return Judged(split, tuple(zip(rows["fold"], rows["id"], strict=True)), labels, folds)


def _split(folds: Path) -> str | None:
    """Return the digest of the split that a protocol's folds were trained on; None: they disagree, or say none."""
    records = [_json(path) or {} for path in folds.glob("*/training.json")]
    found = {record.get("lineage", {}).get("split") for record in records}
    return str(next(iter(found))) if len(found) == 1 and None not in found else None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content
