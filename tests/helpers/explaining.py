"""Takes a folder; gives a small corpus in it with everything that an explanation is made from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from helpers.examples import EMOTIONS, manifest
from helpers.tiny_package import FEATURES, make_package
from speech_emotion.config.data import Protocol, SplitSettings
from speech_emotion.config.evaluation import ExplainSettings
from speech_emotion.core.io import digest_file, write_json
from speech_emotion.data import splits
from speech_emotion.evaluation.explain import Case
from speech_emotion.features.extract import shard_tasks, write_index, write_shard
from speech_emotion.features.store import FeatureStore
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.registry.model_resolution import PRETRAINED

PROTOCOLS: tuple[Protocol, ...] = ("word", "speaker", "full")
SPLIT = SplitSettings(protocols=PROTOCOLS, seed=7, test_share=0.34, validation_share=0.2)
SETTINGS = ExplainSettings(seed=1, utterances=4, folds=3)


def make_case(folder: Path, protocols: tuple[Protocol, ...] = PROTOCOLS) -> Case:
    """Make recordings of noise whose colour is the emotion, their features, and a random package a fold."""
    rows = manifest(words=6)
    rng = np.random.default_rng(0)
    for row in rows.itertuples():
        path = folder / "raw" / row.path
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth = np.ones(1 + 3 * EMOTIONS.index(row.emotion))
        wave = np.convolve(rng.standard_normal(rng.integers(6000, 9000)), smooth / len(smooth), mode="same")
        soundfile.write(path, 0.1 * wave, 16000)
    store = make_store(folder, rows)
    folds = {protocol: make_folds(folder, rows, protocol) for protocol in protocols}
    predictions = {
        protocol: pd.concat([predict(folder, rows, store, protocol, fold) for fold in found], ignore_index=True)
        for protocol, found in folds.items()
        if found[0].test
    }
    return Case(rows, folder / "raw", store, folds, folder / "models", predictions, SETTINGS, workers=1)


def make_store(folder: Path, rows: pd.DataFrame) -> FeatureStore:
    target = folder / "features"
    ids, paths = list(rows["id"]), list(rows["path"])
    tasks = shard_tasks(ids, paths, raw=folder / "raw", folder=target, settings=FEATURES)
    write_index(target, FEATURES, [write_shard(task) for task in tasks])
    return FeatureStore(target)


def make_folds(folder: Path, rows: pd.DataFrame, protocol: Protocol) -> list[splits.Fold]:
    splits.write(folder / f"{protocol}.csv", splits.make(rows, protocol, SPLIT))
    folds = splits.read(folder / f"{protocol}.csv")
    for number, fold in enumerate(folds):
        package = folder / "models" / protocol / fold.name
        make_package(package, seed=number)
        draw_like_the_pretrained(package)
    return folds


def draw_like_the_pretrained(package: Path) -> None:
    """Give a package an architecture that can be drawn, in place of its empty one."""
    shutil.copyfile(PRETRAINED / "architecture.json", package / "architecture.json")
    description = json.loads((package / "package.json").read_text())
    description["files"]["architecture.json"] = digest_file(package / "architecture.json")
    write_json(package / "package.json", description)


def predict(folder: Path, rows: pd.DataFrame, store: FeatureStore, protocol: str, fold: splits.Fold) -> pd.DataFrame:
    """Return what predictions.csv would hold."""
    recognizer = Recognizer.load(folder / "models" / protocol / fold.name)
    probabilities = recognizer.predict_frames(store.read(fold.test))
    found = rows.set_index("id").loc[list(fold.test), ["speaker", "emotion", "text"]].reset_index()
    found.insert(0, "fold", fold.name)
    found["prediction"] = np.array(recognizer.labels)[probabilities.argmax(axis=1)]
    found["confidence"] = probabilities.max(axis=1)
    columns = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in recognizer.labels])
    return pd.concat([found, columns], axis=1)
