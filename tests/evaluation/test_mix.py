"""Evaluate packages that were trained on two corpora, with test speakers and references of the speaker."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from helpers.examples import manifest
from helpers.tiny_package import FEATURES, LABELS, make_package
from helpers.voices import RATE, voices
from speech_emotion.config.data import SplitSettings
from speech_emotion.config.evaluation import BootstrapSettings, EvaluateSettings
from speech_emotion.core.tables import read_table
from speech_emotion.data import splits
from speech_emotion.data.splits import LeakError
from speech_emotion.evaluation import model_card
from speech_emotion.evaluation.comparison import by_slice, read_model_predictions
from speech_emotion.evaluation.metrics import slice_metrics
from speech_emotion.evaluation.protocol_report import evaluate_protocol
from speech_emotion.features.extract import Recorded, shard_tasks, write_index, write_shard
from speech_emotion.features.store import FeatureStore
from speech_emotion.models.package import Calibration, Rejection

CALIBRATION = Calibration(temperature=1.0, rejection=Rejection(threshold=0.5, risk=0.2, coverage=0.5))
EVALUATE = EvaluateSettings(calibration_bins=10, bootstrap=BootstrapSettings(resamples=100, seed=1), enrolment_draws=2)
SPEAKERS = (*(f"a/{number}" for number in range(3)), *(f"b/{number}" for number in range(12)))
SPLIT = SplitSettings(
    protocols=("speaker", "full"),
    seed=7,
    test_share=0.2,
    validation_share=0.1,
    speaker_folds=2,
    test_speakers=("a/0", "b/0"),
)


class Mix:
    """Recordings of two corpora; nobody in `b` is sad. Splits, features and a package for each fold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = manifest(speakers=SPEAKERS, words=2)
        rows["sex"] = np.where(rows["speaker"].str[-1].astype(int) % 2, "male", "female")
        self.manifest = rows[(rows["corpus"] == "a") | (rows["emotion"] != "sad")].reset_index(drop=True)
        for path, samples in zip(self.manifest["path"], voices(len(self.manifest), seed=1), strict=True):
            (folder / "raw" / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / "raw" / path, samples[: RATE // 2], RATE)
        columns = (list(self.manifest[name]) for name in ("id", "path"))
        tasks = shard_tasks(
            *columns, raw=folder / "raw", folder=folder / "features", settings=FEATURES, version=Recorded()
        )
        write_index(folder / "features", FEATURES, [write_shard(task) for task in tasks], {"versions": []})
        self.store = FeatureStore(folder / "features")

    def evaluate(self, protocol: str) -> dict:
        split = self.folder / f"{protocol}.csv"
        splits.write(split, splits.make(self.manifest, protocol, SPLIT))
        for fold in splits.read(split):
            package, frames = self.folder / protocol / fold.name, np.concatenate(self.store.read(fold.train))
            make_package(package, enrolled=CALIBRATION, statistics=(frames.mean(axis=0), frames.std(axis=0)))
            history = pd.DataFrame({"epoch": [1], "loss": [1.0], "val_loss": [1.0], "val_accuracy": [0.5]})
            history.to_csv(package / "history.csv", index=False)
        return evaluate_protocol(
            split,
            models=self.folder / protocol,
            store=self.store,
            settings=EVALUATE,
            target=self.folder / "reports" / protocol,
        ).metrics


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Mix:
    return Mix(tmp_path_factory.mktemp("mix"))


def test_full_is_evaluated_on_the_test_speakers(mix: Mix) -> None:
    found = mix.evaluate("full")

    predictions = pd.read_csv(mix.folder / "reports/full/predictions.csv")
    assert found["part"] == "test"
    assert found["unseen"]["speaker"] == 1.0
    assert set(predictions["speaker"]) == set(SPLIT.test_speakers)
    enrolled = pd.read_csv(mix.folder / "reports/full/enrolment.csv").groupby(["corpus", "sex"])
    assert set(enrolled.groups) == {(corpus, sex) for corpus in ("a", "b", "all") for sex in ("all", "female")}
    for one in found["corpora"]:
        own = enrolled.get_group((one["corpus"], one["sex"])).set_index("condition")
        assert set(own.index) >= {"none", "10 unlabelled", "all unlabelled (transductive)"}
        for condition, row in own.drop(columns=["corpus", "sex", "draws"]).iterrows():
            assert one["scores"][condition] == row.dropna().to_dict()


def test_metrics_of_each_corpus(mix: Mix) -> None:
    found = mix.evaluate("speaker")

    predictions = pd.read_csv(mix.folder / "reports/speaker/predictions.csv")
    assert len(predictions) == (~mix.manifest["speaker"].isin(SPLIT.test_speakers)).sum()
    assert len(found["corpora"]) == 9
    for one in found["corpora"]:
        rows = predictions[predictions["corpus"].eq(one["corpus"]) | (one["corpus"] == "all")]
        rows = rows[rows["sex"].eq(one["sex"]) | (one["sex"] == "all")]
        recalls = (rows["emotion"] == rows["prediction"]).groupby(rows["emotion"]).mean()
        plain, sure = one["scores"]["none"], rows["sure"]
        assert plain["uar"] == pytest.approx(recalls.mean(), abs=1e-6)
        assert plain["recall_angry"] == pytest.approx(recalls["angry"], abs=1e-6)
        assert plain["answered"] == pytest.approx(sure.mean(), abs=1e-6)
        right = (rows["emotion"] == rows["prediction"])[sure].mean()
        assert plain.get("answered_right") == (pytest.approx(right, abs=1e-6) if sure.any() else None)
        assert one["labels"] == (2 if one["corpus"] == "b" else 3)
        assert (one["utterances"], one["speakers"]) == (len(rows), rows["speaker"].nunique())

    card = model_card.write(
        make_package(mix.folder / "card").description,
        {"speaker": found},
        kind="mix",
        corpora=("tess", "my_own"),
        training={"weights": 1, "epochs": 1, "frames": 1},
    )
    assert "## Results by corpus" in card
    assert "Toronto" in card
    assert "| speaker | b | female | 5 | 0.500 |" in card
    pooled = next(one for one in found["corpora"] if (one["corpus"], one["sex"]) == ("b", "all"))
    assert f"| b | 0.500 |  | {pooled['scores']['none']['uar']:.3f} |" in card


def test_baselines_of_each_corpus(mix: Mix, tmp_path: Path) -> None:
    """A baseline that is right in one corpus and wrong in the other is compared with the model in both."""
    found = mix.evaluate("speaker")
    rows = read_table(mix.folder / "reports/speaker/predictions.csv").sample(frac=1, random_state=1)
    answers = np.where(rows["corpus"] == "a", rows["emotion"], rows["emotion"].map({"angry": "sad", "happy": "angry"}))
    table = rows[["id", "fold"]].assign(baseline="svm", repeat=0)
    for label in LABELS:
        table[label] = (answers == label).astype(float)
    table.to_csv(tmp_path / "speaker.csv", index=False)

    models = read_model_predictions("speaker", mix.folder / "reports/speaker", tmp_path / "speaker.csv")
    uars = by_slice(models, EVALUATE).set_index(["name", "corpus", "sex"])["uar"]

    assert (uars["svm", "a"] == 1.0).all()
    assert (uars["svm", "b"] == 0.0).all()
    assert set(uars["svm"].index) == {(one["corpus"], one["sex"]) for one in found["corpora"]}


def test_coverage_at_20_percent_risk() -> None:
    # the four least confident of twelve answers are wrong: two wrong ones of ten are a risk of 20 %
    confidence = np.linspace(0.9, 0.6, 12)

    shares = np.stack([confidence, 1 - confidence], axis=1)
    found = slice_metrics(np.repeat([0, 1], [8, 4]), shares, "ab", bins=10)

    assert found["coverage_at_20_risk"] == pytest.approx(10 / 12, abs=1e-6)
    assert (found["uar"], found["macro_f1"]) == (0.5, pytest.approx(0.4))
    nll = np.mean(-np.log([*confidence[:8], *1 - confidence[8:]]))
    assert (found["accuracy"], found["nll"]) == pytest.approx((8 / 12, nll))


def test_test_speaker_in_training_is_a_leak(mix: Mix) -> None:
    rows = splits.make(mix.manifest, "full", SPLIT)
    rows.loc[rows["part"] == "test", "part"] = ["train", *["test"] * ((rows["part"] == "test").sum() - 1)]

    with pytest.raises(LeakError, match="speaker 'a/0' is on two sides"):
        splits.check(rows, mix.manifest, "full")
