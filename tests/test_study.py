"""A few tones, four models: pseudo-speakers, and the order of models by them and by a speaker who was left out."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from examples import featurize_settings, manifest, network_settings, train_settings
from speech_emotion import splits, study
from speech_emotion.errors import UserError
from speech_emotion.extraction import shard_tasks, write_index, write_shard
from speech_emotion.impersonation import Impersonated
from speech_emotion.reference import Reference
from speech_emotion.settings.base import read_section
from speech_emotion.settings.pseudo_speakers import ActingSettings, PseudoSpeakersSettings, VoiceSettings
from speech_emotion.settings.split import SplitSettings
from speech_emotion.settings.study import StudyModel, StudySettings
from speech_emotion.store import FeatureStore
from speech_emotion.study import LEFT_OUT, PSEUDO_SPEAKERS, SAME_VOICES, Material

SPLIT = SplitSettings(protocols=("speaker", "full"), seed=7, test_share=0.2, validation_share=0.4)
PITCH = {"angry": 280.0, "happy": 190.0, "sad": 120.0}
VOICE = VoiceSettings(
    name="old man",
    formants=0.8,
    pitch=0.9,
    pitch_range=1.0,
    tempo=0.9,
    level_db=-3.0,
    tilt_db=0.0,
    rt60=None,
    snr_db=30.0,
)
ACTING = ActingSettings(pitch=0.0, pitch_range=0.1, tempo=0.1, tilt_db=1.0)
FEATURES = featurize_settings(c0=False)


def store(material_folder: Path, rows: pd.DataFrame, raw: Path, name: str, **rendition: Impersonated) -> FeatureStore:
    folder = material_folder / name
    tasks = shard_tasks(list(rows["id"]), list(rows["path"]), raw=raw, folder=folder, settings=FEATURES, **rendition)
    write_index(folder, FEATURES, [write_shard(task) for task in tasks])
    return FeatureStore(folder)


@pytest.fixture(scope="module")
def folds_and_material(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[splits.Fold], Material]:
    folder = tmp_path_factory.mktemp("study")
    rows, rng = manifest(words=5), np.random.default_rng(0)
    for row in rows.itertuples():
        path = folder / "raw" / row.path
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(rng.integers(6000, 9000)) / 16000
        wave = 0.3 * np.sign(np.sin(2 * np.pi * PITCH[row.emotion] * time))
        soundfile.write(path, wave + 0.01 * rng.standard_normal(len(time)), 16000)
    splits.write(folder / "speaker.csv", splits.make(rows, "speaker", SPLIT))
    folds = splits.read(folder / "speaker.csv")
    held_back = frozenset(name for fold in folds for name in fold.validation)
    strangers = rows[rows["id"].isin(held_back)]
    settings = train_settings(epochs=2)
    reference = train_settings(epochs=2, network=network_settings(input="time mean", pooling="last"))
    return folds, Material(
        manifest=rows,
        raw=folder / "raw",
        store=store(folder, rows, folder / "raw", "features"),
        strangers=store(folder, strangers, folder / "raw", "strangers", rendition=Impersonated(VOICE, 1)),
        train=json.loads(settings.model_dump_json()),
        reference=Reference(FEATURES, reference),
        pseudo_speakers=PseudoSpeakersSettings(seed=1, acting=ACTING, voices=(VOICE,)),
        held_back=held_back,
        workers=1,
    )


@pytest.mark.slow
def test_every_kind_of_model_is_scored_on_every_signal_and_resumed(
    folds_and_material: tuple[list[splits.Fold], Material], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folds, material = folds_and_material
    models = (
        StudyModel(name="means", kind="logistic", inputs="means"),
        StudyModel(name="level", kind="forest", inputs="level and duration"),
        StudyModel(name="reference", kind="reference", inputs="means"),
        StudyModel(name="network", kind="network", inputs="frames", train={"network": {"lstm": [4]}}),
    )
    settings = StudySettings(seed=1, resamples=100, models=models)

    found = [one for model in models for fold in folds for one in study.scores(model, fold, material, seed=1)]
    again = study.scores(models[3], folds[0], material, seed=1)
    correlation = study.write(found, settings, tmp_path / "report", corpus="tones")

    assert again == [one for one in found if (one.model, one.fold) == ("network", folds[0].name)]
    by_signal = {(one.model, one.fold, one.signal): one for one in found}
    assert len(by_signal) == len(models) * len(folds) * 3
    for fold in folds:
        assert by_signal["means", fold.name, LEFT_OUT].utterances == len(fold.test)
        assert by_signal["means", fold.name, PSEUDO_SPEAKERS].utterances == len(fold.validation)
        assert by_signal["means", fold.name, PSEUDO_SPEAKERS].voice == "old-man"
        assert by_signal["means", fold.name, SAME_VOICES].uar == 1.0
    assert set(correlation["fold"]) == {"A", "B", "mean"}
    written = pd.read_csv(tmp_path / "report/models.csv")
    assert list(written["model"].unique()) == [model.name for model in models]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "correlation.csv",
        "models.csv",
        "plot.png",
        "scores.csv",
        "table.md",
    ]


def test_a_signal_that_orders_as_the_left_out_speaker_does_correlates_and_noise_does_not() -> None:
    rng = np.random.default_rng(1)
    left_out = np.linspace(0.2, 0.8, 14)
    table = pd.DataFrame(
        {
            "model": [f"model {number}" for number in range(14)] * 2,
            "fold": ["A"] * 14 + ["B"] * 14,
            SAME_VOICES: rng.uniform(0.98, 1.0, 28),
            PSEUDO_SPEAKERS: np.tile(0.1 + left_out**2, 2),
            LEFT_OUT: np.tile(left_out, 2),
        }
    )
    # the three best are networks, which the signal has the wrong way round
    models = tuple(StudyModel(name=f"model {n}", kind="svm", inputs="means") for n in range(11))
    models += tuple(StudyModel(name=f"model {n}", kind="network", inputs="frames") for n in range(11, 14))
    among = table["model"].isin([model.name for model in models[11:]])
    table.loc[among, PSEUDO_SPEAKERS] = table.loc[among, PSEUDO_SPEAKERS].to_numpy()[[2, 1, 0, 5, 4, 3]]

    found = study.correlations(table, StudySettings(seed=1, resamples=500, models=models)).set_index(["signal", "fold"])

    assert found.loc[(PSEUDO_SPEAKERS, "mean"), "rho"] > 0.97
    assert found.loc[(PSEUDO_SPEAKERS, "mean"), "low"] > 0.8
    alone = found.loc[(PSEUDO_SPEAKERS, study.NETWORKS_ALONE)]
    assert (alone["models"], alone["rho"]) == (3, pytest.approx(-1.0))
    noise = found.loc[(SAME_VOICES, "mean")]
    assert noise["low"] < 0 < noise["high"]


def test_more_copies_than_there_are_cannot_be_asked_for(
    folds_and_material: tuple[list[splits.Fold], Material], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folds, material = folds_and_material
    with pytest.raises(UserError, match=r"'many' is to hear 3 copies, and augment\.copies is 0"):
        study.scores(StudyModel(name="many", kind="network", inputs="frames", copies=3), folds[0], material, seed=1)


def test_the_study_of_this_repository_has_a_dozen_models_that_can_be_built(root: Path) -> None:
    settings = read_section("study", StudySettings, root / "studies/pseudo-speakers/params.yaml")
    assert len(settings.models) >= 12
    assert len({model.kind for model in settings.models}) == 5
    train = json.loads(train_settings().model_dump_json())
    for model in settings.models:
        study.changed(train, model)


def test_inputs_that_a_kind_cannot_take_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("study: {seed: 1, resamples: 100, models: [{name: a, kind: svm, inputs: frames}]}\n")
    with pytest.raises(UserError, match="for kind 'svm' inputs of means"):
        read_section("study", StudySettings, file)
