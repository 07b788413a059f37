"""Train, evaluate and compare the folds of a small corpus of tones."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from helpers.examples import augment_settings, featurize_settings, manifest, train_settings
from speech_emotion.config.data import CorpusSettings, SplitSettings
from speech_emotion.config.evaluation import BootstrapSettings, EvaluateSettings
from speech_emotion.config.training import CalibrateSettings, InputSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file
from speech_emotion.data import splits
from speech_emotion.evaluation.comparison import read_model_predictions
from speech_emotion.evaluation.protocol_report import ProtocolResult, evaluate_protocol, write_overview
from speech_emotion.features.augmentation import Copy
from speech_emotion.features.extract import Recorded, UtteranceVersion, shard_tasks, write_index, write_shard
from speech_emotion.features.mfcc import spec_digest
from speech_emotion.features.store import FeatureStore
from speech_emotion.inference.onnx_parity import check_agreement
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.models.cross_validation import Experiment, train_fold

pytestmark = pytest.mark.slow

SPLIT = SplitSettings(protocols=("speaker", "full"), seed=7, test_share=0.2, validation_share=0.2)
EVALUATE = EvaluateSettings(calibration_bins=10, bootstrap=BootstrapSettings(resamples=200, seed=1))
EPOCHS = 6
PITCH = {"angry": 400.0, "happy": 250.0, "sad": 120.0}


class Corpus:
    """Recordings whose pitch is the emotion, their features and splits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = manifest(words=6)
        rng = np.random.default_rng(0)
        for row in self.manifest.itertuples():
            path = folder / "raw" / row.path
            path.parent.mkdir(parents=True, exist_ok=True)
            time = np.arange(rng.integers(6000, 12000)) / 16000
            wave = 0.3 * np.sign(np.sin(2 * np.pi * PITCH[row.emotion] * time))
            soundfile.write(path, wave + 0.01 * rng.standard_normal(len(time)), 16000)
        self.store = self.extract("features", Recorded(), Copy(augment_settings(), 0))
        for protocol in SPLIT.protocols:
            splits.write(folder / f"{protocol}.csv", splits.make(self.manifest, protocol, SPLIT))

    def extract(self, name: str, *versions: UtteranceVersion) -> FeatureStore:
        settings = featurize_settings(c0=False)
        columns = [list(self.manifest[name]) for name in ("id", "path")]
        shards = [
            write_shard(task)
            for version in versions
            for task in shard_tasks(
                *columns, raw=self.folder / "raw", folder=self.folder / name, settings=settings, version=version
            )
        ]
        write_index(self.folder / name, settings, shards, {"versions": [version.name for version in versions]})
        return FeatureStore(self.folder / name)

    def folds(self, protocol: str) -> list[splits.Fold]:
        return splits.read(self.folder / f"{protocol}.csv")

    def train(self, protocol: str, target: Path, **changes: Any) -> None:
        for fold in self.folds(protocol):
            train_fold(self.experiment(protocol, **changes), fold, target / fold.name)

    def experiment(self, protocol: str, *, risk: float = 0.1, split: Path | None = None, **changes: Any) -> Experiment:
        return Experiment(
            corpus=CorpusSettings(name="tones", kind="folder", source="nowhere"),
            protocol=protocol,
            settings=train_settings(**{"epochs": EPOCHS, **changes}),
            features=self.store,
            split=split or self.folder / f"{protocol}.csv",
            calibrate=CalibrateSettings(risk=risk),
        )

    def report(self, protocol: str, models: Path, target: Path, *, split: Path | None = None) -> ProtocolResult:
        split = split or self.folder / f"{protocol}.csv"
        return evaluate_protocol(split, models=models, store=self.store, settings=EVALUATE, target=target)

    def evaluate(self, protocol: str, models: Path, target: Path, *, split: Path | None = None) -> dict:
        return self.report(protocol, models, target, split=split).metrics


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(corpus: Corpus, tmp_path_factory) -> Path:
    """Packages of the protocols `speaker` and `full`, trained in a folder of their own."""
    workspace = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/mlflow.db")
        for protocol in SPLIT.protocols:
            corpus.train(protocol, workspace / protocol)
    return workspace


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """Packages of the protocol `speaker`, to edit."""
    shutil.copytree(trained / "speaker", tmp_path / "models")
    return tmp_path / "models"


def edit(package: Path, **changes: Any) -> None:
    description = json.loads((package / "package.json").read_text())
    (package / "package.json").write_text(json.dumps(description | changes))


def test_fewer_cepstra(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"train\.inputs\.n_mfcc: 99 is more than the \d+ cepstra"):
        corpus.train("full", tmp_path, inputs=InputSettings(n_mfcc=99, prosody=True))
    corpus.train("full", tmp_path, epochs=1, inputs=InputSettings(n_mfcc=5, prosody=True))

    recognizer = Recognizer.load(tmp_path / "all")
    description = recognizer.package.description
    assert description.features.n_mfcc == 5
    assert description.spec_digest == spec_digest(featurize_settings(c0=False, n_mfcc=5))
    assert recognizer.predict(corpus.folder / "raw" / corpus.manifest["path"][0]).label in PITCH


def test_new_calibration_reuses_the_training(corpus: Corpus, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)  # where the checkpoints are
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained}/mlflow.db")
    corpus.train("full", trained / "risky", risk=0.3)

    first, second = (json.loads((trained / name / "all/training.json").read_text()) for name in ("full", "risky"))

    assert second["settings"]["calibrate"] == {"risk": 0.3}
    assert first["lineage"]["training"] == second["lineage"]["training"]
    assert first["lineage"]["params"] != second["lineage"]["params"]
    assert first["model_digest"] != second["model_digest"]
    weights = "all/model.weights.h5"
    assert digest_file(trained / "full" / weights) == digest_file(trained / "risky" / weights)


def test_onnx_of_other_weights_is_refused(corpus: Corpus, trained: Path, copied: Path) -> None:
    package = copied / "A"
    (package / "graph.onnx").write_bytes((trained / "full/all/graph.onnx").read_bytes())
    files = json.loads((package / "package.json").read_text())["files"]
    edit(package, files=files | {"graph.onnx": digest_file(package / "graph.onnx")})

    with pytest.raises(UserError, match=r"graph\.onnx: probabilities differ"):
        check_agreement(package, [frames for _, frames in corpus.store.utterances()])


def test_report_agrees_with_the_recognizer(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    summary = corpus.evaluate("speaker", trained / "speaker", tmp_path / "report")

    rows = pd.read_csv(tmp_path / "report/predictions.csv")
    assert sorted(rows["id"]) == sorted(corpus.manifest["id"])
    for fold in ("A", "B"):
        mine = rows[rows["fold"] == fold]
        assert set(mine["speaker"]) == {fold}
        assert summary["folds"][fold]["accuracy"] == pytest.approx((mine["emotion"] == mine["prediction"]).mean())
        path = corpus.folder / "raw" / corpus.manifest.set_index("id").loc[mine["id"].iloc[0], "path"]
        prediction = Recognizer.load(trained / "speaker" / fold).predict(path)
        assert prediction.label == mine["prediction"].iloc[0]
        assert prediction.confidence == pytest.approx(mine["confidence"].iloc[0], abs=1e-3)
    assert summary["mean"]["uar"] > 0.9
    low, high = summary["mean"]["interval"]["uar"]
    assert low <= summary["mean"]["uar"] <= high


def test_report_applies_temperature_and_threshold(corpus: Corpus, trained: Path, copied: Path, tmp_path: Path) -> None:
    for package in copied.iterdir():
        edit(package, temperature=2.0, rejection={"threshold": 0.9, "risk": 0.1, "coverage": 0.5})

    summary = corpus.evaluate("speaker", copied, tmp_path / "report")
    plain = corpus.evaluate("speaker", trained / "speaker", tmp_path / "plain")["folds"]["A"]

    fold, rows = summary["folds"]["A"], pd.read_csv(tmp_path / "report/predictions.csv")
    assert fold["rejection"]["threshold"] == 0.9
    assert fold["rejection"]["coverage"] == pytest.approx(rows[rows["fold"] == "A"]["sure"].mean(), abs=1e-6)
    assert fold["uncalibrated"]["nll"] == pytest.approx(plain["uncalibrated"]["nll"], abs=1e-5)
    assert fold["nll"] != pytest.approx(fold["uncalibrated"]["nll"], abs=1e-3)
    bins = pd.read_csv(tmp_path / "report/reliability.csv")
    chosen = bins[(bins["fold"] == "A") & (bins["calibration"] == "after")]
    gaps = (chosen["utterances"] * (chosen["accuracy"] - chosen["confidence"]).abs()).sum()
    assert gaps / chosen["utterances"].sum() == pytest.approx(fold["ece"], abs=1e-4)
    curve = pd.read_csv(tmp_path / "report/risk_coverage.csv")
    assert curve.loc[curve["coverage"] == 1, "risk"].mean() == pytest.approx(1 - summary["mean"]["accuracy"], abs=1e-6)
    assert fold["speakers"]["A"]["uar"] == fold["uar"]


def test_leaking_split_is_refused(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    table = pd.read_csv(corpus.folder / "speaker.csv", dtype=str, keep_default_na=False)
    leaked = table[table["part"] == "test"].iloc[[0]].assign(part="train")
    pd.concat([table, leaked]).to_csv(tmp_path / "speaker.csv", index=False)

    with pytest.raises(splits.LeakError, match=rf"leak: id '{leaked['id'].iloc[0]}' is on two sides"):
        corpus.evaluate("speaker", trained / "speaker", tmp_path / "report", split=tmp_path / "speaker.csv")
    assert not (tmp_path / "report").exists()


def test_leaking_normalization_is_refused(corpus: Corpus, copied: Path, tmp_path: Path) -> None:
    package = copied / "A"
    everybody = np.concatenate(corpus.store.read(list(corpus.manifest["id"])))
    statistics = {"mean": everybody.mean(axis=0).tolist(), "deviation": everybody.std(axis=0).tolist()}
    (package / "normalization.json").write_text(json.dumps(statistics))
    files = json.loads((package / "package.json").read_text())["files"]
    edit(package, files=files | {"normalization.json": digest_file(package / "normalization.json")})

    with pytest.raises(splits.LeakError, match=r"leak: normalization: coefficient .* 'speaker', fold 'A'"):
        corpus.evaluate("speaker", copied, tmp_path / "report")


def test_overview_has_every_protocol_and_fold(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    results = {name: corpus.report(name, trained / name, tmp_path / name) for name in SPLIT.protocols}

    write_overview(results, tmp_path)

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert {name: set(values) for name, values in metrics.items()} == {key: {"uar", "ece"} for key in SPLIT.protocols}
    folds = {("speaker", "A"), ("speaker", "B"), ("full", "all")}
    assert set(zip(curves["protocol"], curves["fold"], strict=True)) == folds
    assert len(pd.read_csv(tmp_path / "confusion.csv")) == sum(len(one.predictions) for one in results.values())


def test_baselines_of_other_utterances_are_refused(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    corpus.evaluate("speaker", trained / "speaker", tmp_path / "report")
    row = {"id": "nobody", "angry": 1, "happy": 0, "sad": 0, "fold": "A", "baseline": "majority", "repeat": 0}
    pd.DataFrame([row]).to_csv(tmp_path / "speaker.csv", index=False)

    with pytest.raises(UserError, match="'majority' has other utterances"):
        read_model_predictions("speaker", tmp_path / "report", tmp_path / "speaker.csv")


def test_calibration_is_fitted_on_the_validation_part(corpus: Corpus, trained: Path) -> None:
    record = json.loads((trained / "speaker/A/training.json").read_text())["calibration"]
    validation = next(fold for fold in corpus.folds("speaker") if fold.name == "A").validation
    recognizer = Recognizer.load(trained / "speaker/A")
    description = recognizer.package.description
    paths = corpus.manifest.set_index("id").loc[list(validation), "path"]
    answers = [recognizer.predict(corpus.folder / "raw" / path) for path in paths]

    assert record["utterances"] == len(validation)
    assert description.temperature == record["alone"]["temperature"]
    assert description.rejection is not None
    assert np.mean([answer.sure for answer in answers]) == pytest.approx(description.rejection.coverage, abs=0.01)
