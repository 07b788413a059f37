from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from helpers.examples import manifest
from helpers.tiny_package import FEATURES, make_package
from helpers.voices import RATE, voices
from speech_emotion.config.evaluation import BootstrapSettings, EvaluateSettings
from speech_emotion.evaluation import references
from speech_emotion.features.extract import Recorded, shard_tasks, write_index, write_shard
from speech_emotion.features.store import FeatureStore
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.models.package import Calibration, Rejection

CALIBRATION = Calibration(temperature=1.0, rejection=Rejection(threshold=0.5, risk=0.2, coverage=0.5))
EVALUATE = EvaluateSettings(calibration_bins=10, bootstrap=BootstrapSettings(resamples=100, seed=1), enrolment_draws=3)
TRANSDUCTIVE = "all unlabelled (transductive)"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw")


@pytest.fixture(scope="module")
def utterances(raw: Path) -> pd.DataFrame:
    """Two speakers of each of two corpora: two angry recordings and four of each other label."""
    rows = manifest(speakers=("a/1", "a/2", "b/1", "b/2"), words=4)
    rows = rows[(rows["emotion"] != "angry") | rows["text"].isin(["word0", "word1"])].reset_index(drop=True)
    for path, samples in zip(rows["path"], voices(len(rows), seed=1), strict=True):
        (raw / path).parent.mkdir(exist_ok=True)
        soundfile.write(raw / path, samples, RATE)
    return rows


@pytest.fixture(scope="module")
def store(utterances: pd.DataFrame, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("features")
    columns = (list(utterances[name]) for name in ("id", "path"))
    tasks = shard_tasks(*columns, raw=raw, folder=folder, settings=FEATURES, version=Recorded())
    write_index(folder, FEATURES, [write_shard(task) for task in tasks], {"versions": []})
    return FeatureStore(folder)


def uar(recognizer: Recognizer, rows: pd.DataFrame, references: pd.DataFrame, raw: Path) -> float:
    """Return the UAR of recordings of several speakers, each with the profile of its references."""
    answers = pd.Series(index=rows.index, dtype=object)
    for speaker, own in rows.groupby("speaker"):
        paths = [raw / path for path in references.loc[references["speaker"] == speaker, "path"]]
        one = recognizer.with_profile(recognizer.enroll(paths)) if paths else recognizer
        answers[own.index] = [one.predict(raw / path).label for path in own["path"]]
    return float((answers == rows["emotion"]).groupby(rows["emotion"]).mean().mean())


def test_scores_are_those_of_the_recognizer(
    utterances: pd.DataFrame, store: FeatureStore, raw: Path, tmp_path: Path
) -> None:
    package = make_package(tmp_path / "package", enrolled=CALIBRATION)
    recognizer = Recognizer(package)
    first = utterances["speaker"].isin(["a/1", "b/1"])
    parts = [(package.folder, utterances[first]), (package.folder, utterances[~first])]

    found = references.scores(parts, store, EVALUATE, workers=1)

    table = found.set_index(["condition", "corpus"])
    assert set(found["condition"]) == {"none", "10 unlabelled", TRANSDUCTIVE, "3 angry"}  # no label is neutral
    assert table.loc["3 angry", "draws"].tolist() == [3, 3]
    for corpus, rows in utterances.groupby("corpus"):
        angry = rows["emotion"] == "angry"
        assert table.loc[("none", corpus), "uar"] == pytest.approx(uar(recognizer, rows, rows[:0], raw))
        assert table.loc[(TRANSDUCTIVE, corpus), "uar"] == pytest.approx(uar(recognizer, rows, rows, raw))
        # both angry recordings of a speaker are references in every draw, and are not scored
        assert table.loc[("3 angry", corpus), "uar"] == pytest.approx(uar(recognizer, rows[~angry], rows[angry], raw))
    pd.testing.assert_frame_equal(found, references.scores(parts, store, EVALUATE, workers=1))


def test_nothing_without_profiles_or_speakers(utterances: pd.DataFrame, store: FeatureStore, tmp_path: Path) -> None:
    without = make_package(tmp_path / "without")
    package = make_package(tmp_path / "package", enrolled=CALIBRATION)

    assert references.scores([(without.folder, utterances)], store, EVALUATE, workers=1).empty
    unknown = utterances.assign(speaker=np.where(utterances["speaker"] == "a/1", "", utterances["speaker"]))
    assert references.scores([(package.folder, unknown)], store, EVALUATE, workers=1).empty
