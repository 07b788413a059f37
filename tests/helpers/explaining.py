"""A small corpus with everything that an explanation needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from helpers.examples import EMOTIONS, manifest
from helpers.tiny_package import make_package
from speech_emotion.config.evaluation import ExplainSettings
from speech_emotion.inference.recognizer import Recognizer

SETTINGS = ExplainSettings(seed=1, utterances=4, folds=3)


def make_explained(folder: Path) -> dict[str, Any]:
    """Write recordings of noise whose colour is the emotion, and a random package; return arguments of `explain`."""
    rows = manifest(words=6)
    rng = np.random.default_rng(0)
    for row in rows.itertuples():
        path = folder / "raw" / row.path
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth = np.ones(1 + 3 * EMOTIONS.index(row.emotion))
        wave = np.convolve(rng.standard_normal(rng.integers(6000, 9000)), smooth / len(smooth), mode="same")
        soundfile.write(path, 0.1 * wave, 16000)
    package = make_package(folder / "package", seed=0).folder
    rows["part"] = np.where(rows["text"] == sorted(set(rows["text"]))[0], "train", "validation")
    return {
        "recordings": rows,
        "raw": folder / "raw",
        "package": package,
        "predictions": {"speaker": predict(folder, rows)},
        "settings": SETTINGS,
    }


def predict(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows like those of predictions.csv."""
    recognizer = Recognizer.load(folder / "package")
    probabilities = np.concatenate(
        [recognizer.predict_frames([recognizer.frames(folder / "raw" / path)]) for path in rows["path"]]
    )
    found = rows[["id", "speaker", "emotion", "text"]].reset_index(drop=True)
    found.insert(0, "fold", "A")
    found["prediction"] = np.array(recognizer.labels)[probabilities.argmax(axis=1)]
    found["confidence"] = probabilities.max(axis=1)
    columns = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in recognizer.labels])
    return pd.concat([found, columns], axis=1)
