"""Normalize the features of a speaker by enrolment: subtract how the mean of reference recordings differs from average.

The difference from the mean of the training data is shrunk towards zero, the more the shorter the references are, and
clipped. References of one emotion alone can therefore not do much damage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from speech_emotion.config.features import ReferenceSettings
from speech_emotion.features.frames import lengths_of

if TYPE_CHECKING:  # not needed by prediction
    from speech_emotion.features.perturbation import Perturbation

PRIOR_FRAMES: Final = 200
"""References of this many frames (4 s at 20 ms) count half."""

LIMIT: Final = 1.5
"""Standard deviations of a feature, the most that is subtracted."""


def shift(mean: np.ndarray, frames: int, statistics: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return what to subtract from every frame of a speaker [shape=(coefficients,)], float32.

    Parameters
    ----------
    mean : np.ndarray [shape=(coefficients,)]
        Mean over the frames of the speaker's references.
    frames : int
        Number of these frames.
    statistics : tuple of np.ndarray [shape=(coefficients,)]
        Mean and standard deviation over the frames of the training data.
    """
    training_mean, training_std = statistics
    weighted = frames / (frames + PRIOR_FRAMES) * (mean - training_mean)
    return np.clip(weighted, -LIMIT * training_std, LIMIT * training_std).astype(np.float32)


@dataclass(frozen=True)
class References:
    """The training utterances as references of their speakers.

    Attributes
    ----------
    sums : sequence of np.ndarray [shape=(n, coefficients)]
        For each version, the sum over the frames of each utterance.
    counts : sequence of np.ndarray [shape=(n,)]
        For each version, the number of frames of each utterance.
    speakers : np.ndarray [shape=(n,)]
        Speaker of each utterance.
    neutral : np.ndarray [shape=(n,)], bool
        Whether an utterance is neutral.
    """

    sums: Sequence[np.ndarray]
    counts: Sequence[np.ndarray]
    speakers: np.ndarray
    neutral: np.ndarray

    @classmethod
    def of(cls, versions: Sequence[Sequence[np.ndarray]], speakers: np.ndarray, neutral: np.ndarray) -> "References":
        """Sum the frames of every version of the utterances."""
        sums = [np.stack([one.sum(axis=0, dtype=np.float64) for one in frames]) for frames in versions]
        return cls(sums, [lengths_of(frames) for frames in versions], speakers, neutral)

    def shifts(
        self,
        versions: np.ndarray,
        settings: ReferenceSettings,
        statistics: tuple[np.ndarray, np.ndarray],
        rng: "np.random.Generator",
        perturbations: "Sequence[Perturbation | None]" = (),
    ) -> np.ndarray:
        """Draw references of each utterance; return what to subtract from it [shape=(n, coefficients)], float32.

        `versions` has the index of the version of each utterance. Its references are other utterances of the speaker in
        the same version, perturbed in the same way; their number is log-uniform up to `settings.most`. A share of the
        utterances has none.
        """
        own = {name: np.flatnonzero(self.speakers == name) for name in np.unique(self.speakers)}
        neutral = {name: rows[self.neutral[rows]] for name, rows in own.items()}
        found = np.zeros((len(versions), self.sums[0].shape[1]), np.float32)
        for row, (version, speaker) in enumerate(zip(versions, self.speakers, strict=True)):
            without, only_neutral, size = rng.random(3)
            rows = neutral[speaker] if only_neutral < settings.neutral and len(neutral[speaker]) else own[speaker]
            chosen = rng.choice(rows, min(len(rows), round(settings.most**size)), replace=False)
            chosen = chosen[chosen != row]
            if without >= settings.none and len(chosen):
                frames = int(self.counts[version][chosen].sum())
                mean = self.sums[version][chosen].sum(axis=0) / frames
                perturbed = perturbations[row] if perturbations else None
                found[row] = shift(perturbed.shifted(mean) if perturbed else mean, frames, statistics)
        return found
