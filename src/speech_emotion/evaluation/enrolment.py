"""Measure what reference recordings of each speaker change."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from speech_emotion.core.errors import UserError
from speech_emotion.evaluation.metrics import HEADLINES, Metrics, metrics
from speech_emotion.inference.recognizer import Recognizer

DRAWS: Final = 20
SEED: Final = 0
NEUTRAL: Final = "neutral"


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

    Raises
    ------
    UserError
        A speaker has too few recordings, or the model accepts no profiles.
    """
    draws = [_Draw() for _ in range(DRAWS)]
    for number, speaker in enumerate(speakers):
        if len(speaker.paths) <= references:
            raise UserError(
                f"{speaker.speaker}: {len(speaker.paths)} recordings are too few to draw {references} references from."
            )
        _add(draws, recognizer, speaker, references, np.random.default_rng([SEED, number]))
    found = [draw.metrics(recognizer.labels, bins) for draw in draws]
    return _mean([without for without, _ in found]), _mean([enrolled for _, enrolled in found])


class _Draw:
    """The scored recordings of all speakers for one choice of references."""

    def __init__(self) -> None:
        self.truth: list[np.ndarray] = []
        self.without: list[np.ndarray] = []
        self.enrolled: list[np.ndarray] = []

    def metrics(self, labels: Sequence[str], bins: int) -> tuple[Metrics, Metrics]:
        truth = np.concatenate(self.truth)
        without, enrolled = (
            metrics(truth, np.concatenate(rows), labels, bins=bins) for rows in (self.without, self.enrolled)
        )
        return without, enrolled


def _add(
    draws: Sequence[_Draw], recognizer: Recognizer, speaker: Recordings, references: int, rng: np.random.Generator
) -> None:
    frames = [recognizer.frames(path) for path in speaker.paths]
    truth = np.array([recognizer.labels.index(label) for label in speaker.labels])
    neutral = np.flatnonzero([label == NEUTRAL for label in speaker.labels])
    without = recognizer.predict_frames(frames)
    for draw in draws:
        chosen = rng.choice(neutral if len(neutral) >= references else len(frames), references, replace=False)
        enrolled = recognizer.with_profile(recognizer.profile_of([frames[index] for index in chosen]))
        scored = np.setdiff1d(np.arange(len(frames)), chosen)
        draw.truth.append(truth[scored])
        draw.without.append(without[scored])
        draw.enrolled.append(enrolled.predict_frames([enrolled.shifted(frames[index]) for index in scored]))


def _mean(found: Sequence[Metrics]) -> Metrics:
    """Return the mean of each headline metric, of the recalls and of the number of utterances."""
    recalls = pd.DataFrame([one["recall"] for one in found]).mean()
    means = {name: float(np.mean([one[name] for one in found])) for name in HEADLINES}
    return {**means, "recall": recalls.to_dict(), "utterances": found[0]["utterances"]}
