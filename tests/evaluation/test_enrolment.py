from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from helpers.examples import manifest
from helpers.recordings import encoded, tone
from helpers.tiny_package import ENROLLED, FEATURES, LABELS, make_package
from helpers.voices import RATE, voices
from speech_emotion.config.evaluation import BootstrapSettings, EvaluateSettings
from speech_emotion.evaluation import enrolment
from speech_emotion.evaluation.enrolment import Recordings, compare, scores
from speech_emotion.evaluation.metrics import metrics
from speech_emotion.features.extract import Recorded, shard_tasks, write_index, write_shard
from speech_emotion.features.store import FeatureStore
from speech_emotion.inference.recognizer import Recognizer

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


def test_recognizer_scores_alike(utterances: pd.DataFrame, store: FeatureStore, raw: Path, tmp_path: Path) -> None:
    package = make_package(tmp_path / "package", enrolled=ENROLLED)
    recognizer = Recognizer(package)
    first = utterances["speaker"].isin(["a/1", "b/1"])
    parts = [(package.folder, utterances[first]), (package.folder, utterances[~first])]

    found = scores(parts, store, EVALUATE, workers=1)

    table = found.set_index(["condition", "corpus"])
    assert set(found["corpus"]) == {"a", "b", "all"}
    # no label is neutral
    assert set(found["condition"]) == {"none", "1 unlabelled", "10 unlabelled", TRANSDUCTIVE, "3 angry"}
    assert table.loc["3 angry", "draws"].tolist() == [3, 3, 3]
    for corpus, rows in utterances.groupby("corpus"):
        angry = rows["emotion"] == "angry"
        assert table.loc[("none", corpus), "uar"] == pytest.approx(uar(recognizer, rows, rows[:0], raw))
        assert table.loc[(TRANSDUCTIVE, corpus), "uar"] == pytest.approx(uar(recognizer, rows, rows, raw))
        # both angry recordings of a speaker are references in every draw, and are not scored
        assert table.loc[("3 angry", corpus), "uar"] == pytest.approx(uar(recognizer, rows[~angry], rows[angry], raw))
    pd.testing.assert_frame_equal(found, scores(parts, store, EVALUATE, workers=1))


def test_without_profiles_or_speakers(utterances: pd.DataFrame, store: FeatureStore, tmp_path: Path) -> None:
    without = make_package(tmp_path / "without")
    package = make_package(tmp_path / "package", enrolled=ENROLLED)

    assert set(scores([(without.folder, utterances)], store, EVALUATE, workers=1)["condition"]) == {"none"}
    unknown = utterances.assign(speaker=np.where(utterances["speaker"] == "a/1", "", utterances["speaker"]))
    assert set(scores([(package.folder, unknown)], store, EVALUATE, workers=1)["condition"]) == {"none"}


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    return Recognizer(make_package(tmp_path / "package", enrolled=ENROLLED))


def speaker(folder: Path, name: str, labels: list[str]) -> Recordings:
    paths = [folder / f"{name}{number}.wav" for number in range(len(labels))]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(tone(hertz=100.0 + 30 * number)))
    return Recordings(name, paths, labels)


def test_references_are_not_scored(recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolment, "NEUTRAL", "sad")
    own = speaker(tmp_path, "anna", ["sad", "angry", "happy", "sad"])

    without, enrolled = compare(recognizer, [own], references=2, bins=15)

    scored, references = own.paths[1:3], [own.paths[0], own.paths[3]]
    truth = np.array([LABELS.index(label) for label in own.labels[1:3]])
    for found, voice in ((without, recognizer), (enrolled, recognizer.with_profile(recognizer.enroll(references)))):
        rows = np.array([list(voice.predict(path).probabilities.values()) for path in scored])
        expected = metrics(truth, rows, LABELS, bins=15)
        assert found["recall"] == expected.pop("recall")
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)
