"""Takes the packaged network, its split and its recordings; gives the reference that monitoring compares with."""

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from speech_emotion.audio import AudioError, decode
from speech_emotion.compute import parallel_map
from speech_emotion.errors import UserError
from speech_emotion.inference import Recognizer
from speech_emotion.monitoring.reference import Reference, make
from speech_emotion.monitoring.traits import traits
from speech_emotion.progress import track
from speech_emotion.settings.survey import SurveySettings
from speech_emotion.splits import Fold


@dataclass(frozen=True)
class Heard:
    """A training recording: its traits, and what the network says of it where it did not learn from it."""

    recording: dict[str, Any]
    answer: dict[str, Any] | None


def survey(
    package: Path,
    fold: Fold,
    manifest: pd.DataFrame,
    raw: Path,
    settings: SurveySettings,
    *,
    workers: int | None = None,
) -> Reference:
    """Listen to the recordings that a network was trained and validated on.

    Parameters
    ----------
    package : Path
        Of the network.
    fold : Fold
        Its utterances. Those of the validation part are answered as well; a test part is not looked at.
    manifest : pd.DataFrame
    raw : Path
        The tree of recordings.
    settings : SurveySettings
    workers : int or None
        Processes; None: one a core. The result is the same.

    Raises
    ------
    UserError
        A recording cannot be used; names it.
    """
    paths = manifest.set_index("id")["path"]
    parts = {False: fold.train, True: fold.validation}
    asked = [(raw / paths[name], answered) for answered, part in parts.items() for name in part]
    work = parallel_map(partial(hear, package), asked, workers=workers)
    heard = list(track(work, len(asked), "survey", "recordings"))
    return make([one.recording for one in heard], [one.answer for one in heard if one.answer is not None], settings)


def hear(package: Path, asked: tuple[Path, bool]) -> Heard:
    """Listen to a recording, and answer it where that is asked for."""
    path, answered = asked
    recognizer = _recognizer(package)
    try:
        sound = decode(path)
        if not answered:
            return Heard(traits(sound).values(), None)
        prediction = recognizer.predict(sound.samples, sound.sample_rate)
    except AudioError as error:
        raise UserError(f"{path}: {error}. It was sound when prepare saw it: run dvc repro again.") from None
    answer = {"label": prediction.label, "sure": prediction.sure, "confidence": round(prediction.confidence, 3)}
    return Heard(traits(sound).values(), answer)


@lru_cache(maxsize=1)
def _recognizer(package: Path) -> Recognizer:
    return Recognizer.load(package)
