"""Measure what reference recordings of each speaker change.

References are drawn from the evaluated recordings. They are not scored, except in the transductive condition, where
every recording is a reference and is scored.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from speech_emotion.config.evaluation import EvaluateSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.parallel import parallel_map
from speech_emotion.evaluation.metrics import Metrics, mean_of, metrics, slice_metrics, slices
from speech_emotion.inference.recognizer import Recognizer

if TYPE_CHECKING:
    from speech_emotion.features.store import FeatureStore

DRAWS: Final = 20
SEED: Final = 0
NEUTRAL: Final = "neutral"

TABLE: Final = "enrolment.csv"

NONE: Final = "none"

CONDITIONS: Final[Mapping[str, tuple[int | None, str | None]]] = {
    NONE: (0, None),
    "1 unlabelled": (1, None),
    "3 neutral": (3, NEUTRAL),
    "10 unlabelled": (10, None),
    "all unlabelled (transductive)": (None, None),
    "3 angry": (3, "angry"),
}
"""How many references a speaker has (None: all recordings) and their label (None: any). `3 angry` is unbalanced."""


@dataclass(frozen=True)
class Recordings:
    """The recordings of one speaker and their true labels."""

    speaker: str
    paths: Sequence[Path]
    labels: Sequence[str]


def compare(
    recognizer: Recognizer, speakers: Iterable[Recordings], *, references: int, bins: int
) -> tuple[Metrics, Metrics]:
    """Return the metrics without and with references, on the same recordings, as means over `DRAWS` draws.

    The references of a speaker are drawn from the neutral recordings if there are enough, else from all, and are not
    scored.

    Raise a `UserError` if a speaker has too few recordings, or the model accepts no profiles.
    """
    labels: list[str] = []
    without, enrolled = [], []
    for number, speaker in enumerate(speakers):
        every = np.arange(len(speaker.paths))
        if len(every) <= references:
            few = f"{speaker.speaker}: has {len(every)} recordings"
            raise UserError(f"{few}; {references} references need at least {references + 1}.")
        frames = [recognizer.frames(path) for path in speaker.paths]
        neutral = np.flatnonzero([label == NEUTRAL for label in speaker.labels])
        pool = neutral if len(neutral) >= references else every
        rng = np.random.default_rng([SEED, number])
        draws = [rng.choice(pool, references, replace=False) for _ in range(DRAWS)]
        labels.extend(speaker.labels)
        without.append(recognizer.predict_frames(frames))
        enrolled.append(np.stack([_predict(recognizer, frames, drawn, np.setdiff1d(every, drawn)) for drawn in draws]))
    truth = np.array([recognizer.labels.index(label) for label in labels])
    profiled = np.concatenate(enrolled, axis=1)
    scored = ~np.isnan(profiled[:, :, 0])

    def mean(draws: Sequence[np.ndarray]) -> Metrics:
        found = [
            metrics(truth[rows], drawn[rows], recognizer.labels, bins=bins)
            for drawn, rows in zip(draws, scored, strict=True)
        ]
        recalls = pd.DataFrame([one["recall"] for one in found]).mean()
        return {**mean_of(found), "recall": recalls.to_dict(), "utterances": found[0]["utterances"]}

    return mean([np.concatenate(without)] * DRAWS), mean(list(profiled))


def scores(
    parts: Sequence[tuple[Path, pd.DataFrame]], store: "FeatureStore", settings: EvaluateSettings, workers: int | None
) -> pd.DataFrame:
    """Return the metrics of each slice in every condition, pooled over folds and averaged over draws of the references.

    `parts` are the package of each fold and the utterances it is evaluated on, from `splits.utterances`; `workers` the
    processes (None: one per core).

    Returns
    -------
    pd.DataFrame [columns=(condition, corpus, sex, metrics…, draws)]
        Without references only, if a package accepts no profile or a speaker is unknown.
    """
    rows = pd.concat([part for _, part in parts], ignore_index=True)
    recognizers = [Recognizer.load(package) for package, _ in parts]
    known = all(one.package.description.enrolled for one in recognizers) and (rows["speaker"] != "").all()
    names = [name for name, (_, label) in CONDITIONS.items() if label is None or label in recognizers[0].labels]
    work = partial(_answers, store=store, draws=settings.enrolment_draws, conditions=names if known else [NONE])
    folds = list(parallel_map(work, parts, workers=workers))
    labels, bins, sizes = recognizers[0].labels, settings.calibration_bins, [len(part) for _, part in parts]
    truth = rows["emotion"].map(labels.index).to_numpy()
    table = []
    for name in folds[0]:
        draws = np.concatenate([fold[name] for fold in folds], axis=1)
        thresholds = np.repeat([_threshold(one, name) for one in recognizers], sizes)
        for (corpus, sex), own in slices(rows).items():
            scored = [own & ~np.isnan(drawn[:, 0]) for drawn in draws]
            found = pd.DataFrame(
                slice_metrics(truth[kept], drawn[kept], labels, bins=bins, least=thresholds[kept])
                for drawn, kept in zip(draws, scored, strict=True)
            )
            table.append({"condition": name, "corpus": corpus, "sex": sex, **found.mean(), "draws": len(draws)})
    return pd.DataFrame(table)


def _threshold(recognizer: Recognizer, condition: str) -> float:
    """Return the confidence from which an answer is given."""
    description = recognizer.package.description
    enrolled = description.enrolled if condition != NONE else None
    rejection = enrolled.rejection if enrolled else description.rejection
    return rejection.threshold if rejection else 0.0


def _answers(
    part: tuple[Path, pd.DataFrame], *, store: "FeatureStore", draws: int, conditions: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return the probabilities of a package in each condition [shape=(draws, n, labels)]; NaN: a reference."""
    package, rows = part
    recognizer = Recognizer.load(package)
    frames = store.narrowed(recognizer.package.description.features).read(list(rows["id"]))
    emotions = rows["emotion"].to_numpy(dtype=object)
    speakers = list(rows.reset_index(drop=True).groupby("speaker", sort=True).indices.values())

    def drawn(count: int | None, label: str | None, rng: np.random.Generator) -> np.ndarray:
        found = np.empty((len(rows), len(recognizer.labels)))
        for own in speakers:
            pool = np.flatnonzero(emotions[own] == label) if label else np.arange(len(own))
            # at least half of the recordings of a speaker are scored
            size = len(pool) if count is None else min(count, len(pool), len(own) // 2)
            chosen = rng.choice(pool, size, replace=False)
            scored = np.arange(len(own)) if count is None else np.setdiff1d(np.arange(len(own)), chosen)
            found[own] = _predict(recognizer, [frames[row] for row in own], chosen, scored)
        return found

    return {
        name: np.stack([drawn(count, label, np.random.default_rng(draw)) for draw in range(draws if count else 1)])
        for name, (count, label) in CONDITIONS.items()
        if name in conditions
    }


def _predict(
    recognizer: Recognizer, frames: Sequence[np.ndarray], references: np.ndarray, scored: np.ndarray
) -> np.ndarray:
    """Return the probabilities of a speaker's recordings [shape=(n, labels)]; NaN: not scored."""
    if len(references):
        recognizer = recognizer.with_profile(recognizer.profile_of([frames[row] for row in references]))
    found = np.full((len(frames), len(recognizer.labels)), np.nan)
    found[scored] = recognizer.predict_frames([recognizer.shifted(frames[row]) for row in scored])
    return found
