"""One small corpus of tones, from helpers.recordings to a judged package, through the library's own functions."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from helpers.examples import augment_settings, featurize_settings, manifest, network_settings, train_settings
from speech_emotion.config.data import CorpusSettings, SplitSettings
from speech_emotion.config.evaluation import BootstrapSettings, EvaluateSettings
from speech_emotion.config.training import CalibrateSettings, InputSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file, digest_folder
from speech_emotion.data import splits
from speech_emotion.evaluation.comparison import compare, read_contest, recall_rows, write_table
from speech_emotion.evaluation.protocol_report import evaluate_protocol, write_overview
from speech_emotion.features.augmentation import Copy
from speech_emotion.features.extract import Recorded, UtteranceVersion, shard_tasks, write_index, write_shard
from speech_emotion.features.functionals import functionals
from speech_emotion.features.mfcc import spec_digest
from speech_emotion.features.store import FeatureStore
from speech_emotion.inference.onnx_parity import check_agreement
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.models.baselines import DESCRIPTIONS
from speech_emotion.models.cross_validation import Experiment, train_fold
from speech_emotion.models.package import Package, assemble
from speech_emotion.models.reference_lstm import predict_baselines

SPLIT = SplitSettings(protocols=("speaker", "full"), seed=7, test_share=0.2, validation_share=0.2)
EVALUATE = EvaluateSettings(calibration_bins=10, bootstrap=BootstrapSettings(resamples=200, seed=1))
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
        ids, paths = list(self.manifest["id"]), list(self.manifest["path"])
        shards = [
            write_shard(task)
            for version in versions
            for task in shard_tasks(
                ids, paths, raw=self.folder / "raw", folder=self.folder / name, settings=settings, version=version
            )
        ]
        write_index(self.folder / name, settings, shards, {"versions": [version.name for version in versions]})
        return FeatureStore(self.folder / name)

    def folds(self, protocol: str) -> list[splits.Fold]:
        return splits.read(self.folder / f"{protocol}.csv")

    def train(self, protocol: str, target: Path, *, risk: float = 0.1, **changes: Any) -> None:
        experiment = self.experiment(protocol, risk=risk, **changes)
        for fold in self.folds(protocol):
            train_fold(experiment, fold, target / fold.name)

    def experiment(self, protocol: str, *, risk: float = 0.1, **changes: Any) -> Experiment:
        return Experiment(
            corpus=CorpusSettings(name="tones", kind="folder", source="nowhere"),
            protocol=protocol,
            settings=train_settings(**{"epochs": 8, **changes}),
            features=self.store,
            split=self.folder / f"{protocol}.csv",
            calibrate=CalibrateSettings(risk=risk),
        )

    def evaluate(self, protocol: str, models: Path, target: Path, *, split: Path | None = None) -> dict:
        return evaluate_protocol(
            split or self.folder / f"{protocol}.csv", models=models, store=self.store, settings=EVALUATE, target=target
        ).metrics


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


@pytest.mark.slow
def test_fewer_cepstra(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = InputSettings(n_mfcc=5, prosody=True)
    corpus.train("speaker", tmp_path / "models", epochs=1, inputs=few)

    description = Package.load(tmp_path / "models/A").description
    corpus.evaluate("speaker", tmp_path / "models", tmp_path / "report")

    assert description.features.n_mfcc == 5
    assert description.spec_digest == spec_digest(featurize_settings(c0=False, n_mfcc=5))
    assert (tmp_path / "report/metrics.json").exists()


def test_too_many_cepstra_are_refused(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"train\.inputs\.n_mfcc: 99 is more than the \d+ cepstra"):
        corpus.train("full", tmp_path / "models", inputs=InputSettings(n_mfcc=99, prosody=True))


def test_fold_has_package_and_history(trained: Path) -> None:
    record = json.loads((trained / "speaker/A/training.json").read_text())
    history = pd.read_csv(trained / "speaker/A/history.csv")

    assert sorted(path.name for path in (trained / "speaker").iterdir()) == ["A", "B"]
    assert list(history["epoch"]) == list(range(1, 9))
    assert record["epochs"] == record["best_epoch"] == 8
    assert set(record["lineage"]) == {"data", "features", "params", "spec", "split", "training"}


def test_calibration_is_part_of_the_identity(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for risk in (0.1, 0.3):
        corpus.train("full", tmp_path / f"{risk}", epochs=1, risk=risk)

    first, second = (json.loads((tmp_path / f"{risk}/all/training.json").read_text()) for risk in (0.1, 0.3))

    assert set(first["settings"]) == {"train", "featurize", "augment", "calibrate"}
    assert second["settings"]["calibrate"] == {"risk": 0.3}
    assert first["lineage"]["training"] == second["lineage"]["training"]
    assert first["lineage"]["params"] != second["lineage"]["params"]
    assert first["training_digest"] != second["training_digest"]


def test_onnx_agrees_with_keras(corpus: Corpus, trained: Path) -> None:
    assert check_agreement(trained / "full/all", [frames for _, frames in corpus.store.utterances()]) < 1e-5


def test_onnx_of_other_weights_is_refused(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    assemble(trained / "full/all", {}, mixed)
    for name in ("model.weights.h5", "package.json"):
        source = trained / "speaker/A" / name
        (mixed / name).write_bytes(source.read_bytes())
    description = json.loads((mixed / "package.json").read_text())
    full = json.loads((trained / "full/all/package.json").read_text())
    description["files"] = full["files"] | {"model.weights.h5": description["files"]["model.weights.h5"]}
    (mixed / "package.json").write_text(json.dumps(description))

    with pytest.raises(UserError, match=r"graph\.onnx: probabilities differ"):
        check_agreement(mixed, [frames for _, frames in corpus.store.utterances()])


def test_report_agrees_with_the_recognizer(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    summary = corpus.evaluate("speaker", trained / "speaker", tmp_path / "report")

    rows = pd.read_csv(tmp_path / "report/predictions.csv")
    assert sorted(rows["id"]) == sorted(corpus.manifest["id"])
    for fold in ("A", "B"):
        mine = rows[rows["fold"] == fold]
        assert set(mine["speaker"]) == {fold}
        assert summary["folds"][fold]["accuracy"] == pytest.approx((mine["emotion"] == mine["prediction"]).mean())
        recognizer = Recognizer.load(trained / "speaker" / fold)
        path = corpus.folder / "raw" / corpus.manifest.set_index("id").loc[mine["id"].iloc[0], "path"]
        assert recognizer.predict(path).label == mine["prediction"].iloc[0]
        assert recognizer.predict(path).confidence == pytest.approx(mine["confidence"].iloc[0], abs=1e-3)
    assert summary["mean"]["uar"] > 0.9
    low, high = summary["mean"]["interval"]["uar"]
    assert low <= summary["mean"]["uar"] <= high
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "metrics.json",
        "predictions.csv",
        "reliability.csv",
        "risk_coverage.csv",
        "confusion.png",
        "curves.png",
        "reliability.png",
        "risk_coverage.png",
    }


def test_report_of_calibration_and_threshold(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(trained / "speaker", models)
    for path in models.glob("*/package.json"):
        content = json.loads(path.read_text())
        content |= {"temperature": 2.0, "rejection": {"threshold": 0.9, "risk": 0.1, "coverage": 0.5}}
        path.write_text(json.dumps(content))

    summary = corpus.evaluate("speaker", models, tmp_path / "report")
    as_trained = corpus.evaluate("speaker", trained / "speaker", tmp_path / "plain")

    rows = pd.read_csv(tmp_path / "report/predictions.csv")
    mine = rows[rows["fold"] == "A"]
    fold, plain = summary["folds"]["A"], as_trained["folds"]["A"]
    temperature = json.loads((trained / "speaker/A/package.json").read_text())["temperature"]
    assert fold["rejection"]["threshold"] == 0.9
    assert fold["rejection"]["coverage"] == pytest.approx(mine["sure"].mean(), abs=1e-6)
    assert fold["uncalibrated"]["nll"] == pytest.approx(plain["uncalibrated"]["nll"], abs=1e-5)
    if temperature == 1.0:
        assert plain["uncalibrated"]["nll"] == pytest.approx(plain["nll"], abs=1e-6)
    assert fold["nll"] != pytest.approx(fold["uncalibrated"]["nll"], abs=1e-3)
    bins = pd.read_csv(tmp_path / "report/reliability.csv")
    chosen = bins[(bins["fold"] == "A") & (bins["calibration"] == "after")]
    gaps = (chosen["utterances"] * (chosen["accuracy"] - chosen["confidence"]).abs()).sum()
    assert gaps / chosen["utterances"].sum() == pytest.approx(fold["ece"], abs=1e-4)
    curve = pd.read_csv(tmp_path / "report/risk_coverage.csv")
    assert curve.loc[curve["coverage"] == 1, "risk"].mean() == pytest.approx(1 - summary["mean"]["accuracy"], abs=1e-6)
    assert summary["folds"]["A"]["speakers"]["A"]["uar"] == fold["uar"]


def test_leaking_split_is_refused(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    table = pd.read_csv(corpus.folder / "speaker.csv", dtype=str, keep_default_na=False)
    leaked = table[table["part"] == "test"].iloc[[0]].assign(part="train")
    pd.concat([table, leaked]).to_csv(tmp_path / "speaker.csv", index=False)

    with pytest.raises(splits.LeakError, match=rf"leak: id '{leaked['id'].iloc[0]}' is on two sides"):
        corpus.evaluate("speaker", trained / "speaker", tmp_path / "report", split=tmp_path / "speaker.csv")
    assert not (tmp_path / "report").exists()


def test_overview_has_every_protocol_and_fold(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    results = {
        protocol: evaluate_protocol(
            corpus.folder / f"{protocol}.csv",
            models=trained / protocol,
            store=corpus.store,
            settings=EVALUATE,
            target=tmp_path / protocol,
        )
        for protocol in SPLIT.protocols
    }

    write_overview(results, tmp_path)

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert {name: set(values) for name, values in metrics.items()} == {
        "speaker": {"uar", "ece"},
        "full": {"uar", "ece"},
    }
    assert set(zip(curves["protocol"], curves["fold"], strict=True)) == {
        ("speaker", "A"),
        ("speaker", "B"),
        ("full", "all"),
    }
    assert len(pd.read_csv(tmp_path / "confusion.csv")) == sum(len(one.predictions) for one in results.values())


def test_leaking_normalization_is_refused(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(trained / "speaker", models)
    package = models / "A"
    everybody = np.concatenate(corpus.store.read(list(corpus.manifest["id"])))
    statistics = {"mean": everybody.mean(axis=0).tolist(), "deviation": everybody.std(axis=0).tolist()}
    (package / "normalization.json").write_text(json.dumps(statistics))
    description = json.loads((package / "package.json").read_text())
    description["files"]["normalization.json"] = digest_file(package / "normalization.json")
    (package / "package.json").write_text(json.dumps(description))

    with pytest.raises(splits.LeakError, match=r"leak: normalization: coefficient .* 'speaker', fold 'A'"):
        corpus.evaluate("speaker", models, tmp_path / "report")


def test_full_is_evaluated_on_validation(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    summary = corpus.evaluate("full", trained / "full", tmp_path / "report")

    assert summary["part"] == "validation"
    assert summary["folds"]["all"]["utterances"] == len(corpus.folds("full")[0].validation)


def test_training_and_evaluation_are_reproducible(
    corpus: Corpus, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # without the first one's checkpoints
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    corpus.train("full", tmp_path / "full")

    assert digest_folder(tmp_path / "full") == digest_folder(trained / "full")
    corpus.evaluate("full", tmp_path / "full", tmp_path / "a")
    corpus.evaluate("full", tmp_path / "full", tmp_path / "b")
    assert digest_folder(tmp_path / "a") == digest_folder(tmp_path / "b")


@pytest.mark.slow
def test_comparison_with_every_baseline(
    corpus: Corpus, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = corpus.manifest.set_index("id")
    corpus.evaluate("speaker", trained / "speaker", tmp_path / "report")
    summary = functionals(corpus.manifest, corpus.folder / "raw", featurize_settings(), workers=1).set_index("id")
    settings = train_settings(epochs=2, seed=1, network=network_settings(input="time_mean", pooling="last"))
    tables = [
        predict_baselines(fold, emotions=rows["emotion"], table=summary, settings=settings, shuffles=20)
        for fold in corpus.folds("speaker")
    ]
    pd.concat(tables).to_csv(tmp_path / "speaker.csv", index=False)

    contest = read_contest("speaker", tmp_path / "report", tmp_path / "speaker.csv")
    table, recall = compare(contest, EVALUATE), recall_rows(contest, EVALUATE)
    write_table(table, recall, tmp_path / "table", corpus="tones")

    by_name = {(row.name, row.fold): row for row in table}
    assert {row.name for row in table} == {"model", *DESCRIPTIONS}
    assert {row.fold for row in table} == {"A", "B", "mean"}
    assert by_name["majority", "mean"].metrics["uar"] == pytest.approx(1 / 3)
    assert by_name["shortcut", "mean"].metrics["uar"] < 0.75  # level and length say nothing here
    assert by_name["logistic", "mean"].metrics["uar"] > 0.9
    ahead = by_name["majority", "mean"].behind
    assert ahead is not None
    assert ahead.interval.low > 0.4
    low, high = by_name["shuffled", "mean"].interval["uar"]
    assert low < 1 / 3 < high
    assert by_name["model", "A"].uncalibrated is not None
    own = recall[(recall["name"] == "model") & (recall["fold"] == "A")]
    assert list(own["emotion"]) == ["", "angry", "happy", "sad"]
    assert set(own["speaker"]) == {"A"}
    assert own["recall"].iloc[1:].mean() == pytest.approx(own["recall"].iloc[0])
    assert (own["low"] <= own["recall"]).all()
    assert (own["recall"] <= own["high"]).all()
    assert sorted(path.name for path in (tmp_path / "table").iterdir()) == [
        "recall.csv",
        "recall.png",
        "summary.md",
        "table.csv",
        "table.md",
        "table.png",
    ]


def test_baselines_of_other_utterances_are_refused(corpus: Corpus, trained: Path, tmp_path: Path) -> None:
    corpus.evaluate("speaker", trained / "speaker", tmp_path / "report")
    table = pd.DataFrame([{"id": "nobody", "angry": 1, "happy": 0, "sad": 0, "fold": "A"}]).assign(
        baseline="majority", repeat=0
    )
    table.to_csv(tmp_path / "speaker.csv", index=False)

    with pytest.raises(UserError, match="'majority' has other utterances"):
        read_contest("speaker", tmp_path / "report", tmp_path / "speaker.csv")


@pytest.mark.slow
def test_other_labels_are_another_training(
    corpus: Corpus, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)  # where the checkpoints of the first training lie
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    raw = corpus.folder / "raw"
    swapped = corpus.manifest["emotion"].replace({"angry": "happy", "happy": "angry"})
    relabelled = splits.make(corpus.manifest.assign(emotion=swapped), "full", SPLIT)
    (tmp_path / "corpus").mkdir()
    splits.write(tmp_path / "corpus" / "full.csv", relabelled)
    monkeypatch.setattr(corpus, "folder", tmp_path / "corpus")

    corpus.train("full", tmp_path / "full")

    high_tone = raw / next(path for path in corpus.manifest["path"] if "angry" in path)
    assert Recognizer.load(trained / "full/all").predict(high_tone).label == "angry"
    assert Recognizer.load(tmp_path / "full/all").predict(high_tone).label == "happy"


def test_calibration_is_fitted_on_the_validation_part(corpus: Corpus, trained: Path) -> None:
    folder = trained / "speaker/A"
    record = json.loads((folder / "training.json").read_text())["calibration"]
    validation = next(fold for fold in corpus.folds("speaker") if fold.name == "A").validation
    description = Package.load(folder).description
    paths = corpus.manifest.set_index("id").loc[list(validation), "path"]
    recognizer = Recognizer.load(folder)
    answers = [recognizer.predict(corpus.folder / "raw" / path) for path in paths]

    assert record["utterances"] == len(validation)
    assert description.temperature == record["temperature"]
    assert description.rejection is not None
    assert np.mean([answer.sure for answer in answers]) == pytest.approx(description.rejection.coverage, abs=0.01)


def test_not_sure_below_the_threshold(corpus: Corpus, trained: Path) -> None:
    recognizer = Recognizer.load(trained / "speaker/A")
    rejection = recognizer.package.description.rejection
    assert rejection is not None
    least, most = rejection.threshold - 0.01, max(rejection.threshold, 0.99)

    answers = recognizer.answers(np.array([[least, 1 - least, 0.0], [most, 1 - most, 0.0]]))

    assert [answer.sure for answer in answers] == [max(least, 1 - least) >= rejection.threshold, True]
