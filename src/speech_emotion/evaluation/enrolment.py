"""Measure what reference recordings of each speaker change."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from speech_emotion.core.errors import UserError
from speech_emotion.evaluation.metrics import Metrics, mean_of, metrics
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
    truth: list[list[np.ndarray]] = [[] for _ in range(DRAWS)]
    without: list[list[np.ndarray]] = [[] for _ in range(DRAWS)]
    enrolled: list[list[np.ndarray]] = [[] for _ in range(DRAWS)]
    for number, speaker in enumerate(speakers):
        if len(speaker.paths) <= references:
            raise UserError(
                f"{speaker.speaker}: {len(speaker.paths)} recordings are too few to draw {references} references from."
            )
        frames = [recognizer.frames(path) for path in speaker.paths]
        known = np.array([recognizer.labels.index(label) for label in speaker.labels])
        neutral = np.flatnonzero([label == NEUTRAL for label in speaker.labels])
        unenrolled = recognizer.predict_frames(frames)
        rng = np.random.default_rng([SEED, number])
        for draw in range(DRAWS):
            chosen = rng.choice(neutral if len(neutral) >= references else len(frames), references, replace=False)
            voice = recognizer.with_profile(recognizer.profile_of([frames[index] for index in chosen]))
            scored = np.setdiff1d(np.arange(len(frames)), chosen)
            truth[draw].append(known[scored])
            without[draw].append(unenrolled[scored])
            enrolled[draw].append(voice.predict_frames([voice.shifted(frames[index]) for index in scored]))

    def mean(rows: list[list[np.ndarray]]) -> Metrics:
        found = [
            metrics(np.concatenate(own), np.concatenate(drawn), recognizer.labels, bins=bins)
            for own, drawn in zip(truth, rows, strict=True)
        ]
        recalls = pd.DataFrame([one["recall"] for one in found]).mean()
        return {**mean_of(found), "recall": recalls.to_dict(), "utterances": found[0]["utterances"]}

    return mean(without), mean(enrolled)
