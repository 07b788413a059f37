"""Measure the UAR with references of the speaker, drawn from the evaluated recordings.

References are not scored, except in the transductive condition, where every recording is a reference and is scored.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.parallel import parallel_map
from speech_emotion.inference.recognizer import Recognizer

if TYPE_CHECKING:
    from speech_emotion.features.store import FeatureStore

TABLE: Final = "enrolment.csv"

NONE: Final = "none"

CONDITIONS: Final[Mapping[str, tuple[int | None, str | None]]] = {
    NONE: (0, None),
    "3 neutral": (3, "neutral"),
    "10 unlabelled": (10, None),
    "all unlabelled (transductive)": (None, None),
    "3 angry": (3, "angry"),
}
"""How many references a speaker has (None: all recordings) and their label (None: any). `3 angry` is unbalanced."""


def scores(
    parts: Sequence[tuple[Path, pd.DataFrame]],
    store: "FeatureStore",
    settings: EvaluateSettings,
    *,
    workers: int | None,
) -> pd.DataFrame:
    """Return the UAR in every condition, pooled over folds and averaged over draws of the references.

    Parameters
    ----------
    parts : sequence of (Path, pd.DataFrame)
        The package of each fold and the utterances it is evaluated on, from `splits.utterances`.
    store : FeatureStore
    settings : EvaluateSettings
    workers : int or None
        Processes; None: one per core.

    Returns
    -------
    pd.DataFrame [columns=(condition, corpus, uar, draws)]
        The corpus is "all" unless it is one of a mix. Empty if a package accepts no profile or a speaker is unknown.
    """
    rows = pd.concat([part for _, part in parts], ignore_index=True)
    described = [Recognizer.load(package).package.description for package, _ in parts]
    if any(one.enrolled is None for one in described) or (rows["speaker"] == "").any():
        return pd.DataFrame(columns=["condition", "corpus", "uar", "draws"])
    work = partial(_answers, store=store, draws=settings.enrolment_draws)
    folds = list(parallel_map(work, parts, workers=workers))
    table = []
    for name in folds[0]:
        answers = np.concatenate([fold[name] for fold in folds], axis=1)
        for corpus, members in rows.groupby("corpus", sort=True).groups.items():
            truth = rows.loc[members, "emotion"].to_numpy(dtype=object)
            uar = np.mean([_uar(truth, drawn) for drawn in answers[:, members]])
            table.append({"condition": name, "corpus": corpus or "all", "uar": uar, "draws": len(answers)})
    return pd.DataFrame(table)


def _answers(part: tuple[Path, pd.DataFrame], *, store: "FeatureStore", draws: int) -> dict[str, np.ndarray]:
    """Return the labels that a package predicts in each condition [shape=(draws, n)]; "" is a reference, not scored."""
    package, rows = part
    recognizer = Recognizer.load(package)
    frames = store.narrowed(recognizer.package.description.features).read(list(rows["id"]))
    emotions, labels = rows["emotion"].to_numpy(dtype=object), np.array(recognizer.labels, dtype=object)
    speakers = list(rows.reset_index(drop=True).groupby("speaker", sort=True).indices.values())

    def drawn(count: int | None, label: str | None, rng: np.random.Generator) -> np.ndarray:
        answers = np.full(len(rows), "", dtype=object)
        for own in speakers:
            pool = own[emotions[own] == label] if label else own
            # at least half of the recordings of a speaker are scored
            size = len(pool) if count is None else min(count, len(pool), len(own) // 2)
            chosen = rng.choice(pool, size, replace=False)
            scored = own if count is None else np.setdiff1d(own, chosen)
            profile = recognizer.profile_of([frames[row] for row in chosen]) if size else None
            enrolled = recognizer.with_profile(profile) if profile else recognizer
            probabilities = enrolled.predict_frames([enrolled.shifted(frames[row]) for row in scored])
            answers[scored] = labels[probabilities.argmax(axis=1)]
        return answers

    return {
        name: np.stack([drawn(count, label, np.random.default_rng(draw)) for draw in range(draws if count else 1)])
        for name, (count, label) in CONDITIONS.items()
        if label is None or label in labels
    }


def _uar(truth: np.ndarray, answers: np.ndarray) -> float:
    scored = answers != ""
    recalls = [np.mean(answers[scored & (truth == label)] == label) for label in set(truth[scored])]
    return float(np.mean(recalls))
