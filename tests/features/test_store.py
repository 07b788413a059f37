"""The feature store: what it returns, from memory or disk, and its errors."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers.examples import featurize_settings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder
from speech_emotion.core.parallel import parallel_map
from speech_emotion.features.extract import SHARD_SIZE, shard_tasks, write_index, write_shard
from speech_emotion.features.mfcc import Extractor, names, spec_digest
from speech_emotion.features.store import FeatureStore

COUNT = SHARD_SIZE + 5


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(4000 + 50 * number), 16000)
    return folder


def build(raw: Path, folder: Path, workers: int) -> None:
    ids = [f"utterance-{number}" for number in range(COUNT)]
    settings = featurize_settings()
    paths = [f"{n}.wav" for n in range(COUNT)]
    tasks = shard_tasks(ids, paths, raw=raw, folder=folder, settings=settings)
    write_index(folder, settings, list(parallel_map(write_shard, tasks, workers=workers)))


@pytest.fixture(scope="module")
def folder(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("store")
    build(raw, built, 1)
    return built


@pytest.fixture
def store(folder: Path) -> FeatureStore:
    return FeatureStore(folder)


def samples(raw: Path, number: int) -> np.ndarray:
    return soundfile.read(raw / f"{number}.wav", dtype="float32")[0]


def test_frames_come_back_in_order(raw: Path, store: FeatureStore) -> None:
    frames = store.read(["utterance-130", "utterance-2"])

    extractor = Extractor(featurize_settings())
    for number, one in zip([130, 2], frames, strict=True):
        np.testing.assert_allclose(one, extractor(samples(raw, number)), atol=1e-5)


def test_frames_on_disk_leave_no_file(store: FeatureStore, tmp_path: Path) -> None:
    ids = ["utterance-130", "utterance-2", "utterance-40"]

    stored = store.read(ids, scratch=tmp_path)

    for one, other in zip(stored, store.read(ids), strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(tmp_path.iterdir()) == []


def test_fewer_cepstra_equal_a_new_extraction(raw: Path, store: FeatureStore) -> None:
    few = featurize_settings(n_mfcc=4)

    narrow = store.narrowed(few)

    assert narrow.names == names(few)
    assert narrow.spec_digest == spec_digest(few)
    [one] = narrow.read(["utterance-2"])
    np.testing.assert_allclose(one, Extractor(few)(samples(raw, 2)), atol=1e-4)
    assert store.read(["utterance-2"])[0].shape[1] == store.coefficients > narrow.coefficients


@pytest.mark.parametrize("changes", [{"n_mfcc": 30}, {"hop_length": 100}, {"c0": False}])
def test_other_features_are_refused(store: FeatureStore, changes: dict) -> None:
    with pytest.raises(UserError, match="do not contain those that the model needs"):
        store.narrowed(featurize_settings(**changes))


def test_bytes_do_not_depend_on_workers(raw: Path, folder: Path, tmp_path: Path) -> None:
    build(raw, tmp_path, 2)

    assert digest_folder(tmp_path) == digest_folder(folder)


@pytest.mark.parametrize("on_disk", [False, True])
def test_missing_store_or_utterance_is_named(store: FeatureStore, tmp_path: Path, on_disk: bool) -> None:
    with pytest.raises(UserError, match=r"features\.json: is missing or damaged. Run `dvc repro featurize`"):
        FeatureStore(tmp_path)
    with pytest.raises(UserError, match="1 utterances have no features, the first is nobody"):
        store.read(["utterance-1", "nobody"], scratch=tmp_path if on_disk else None)


def test_damaged_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("this is no recording")
    [task] = shard_tasks(["x"], ["bad.wav"], raw=tmp_path, folder=tmp_path / "out", settings=featurize_settings())

    with pytest.raises(UserError, match=r"bad\.wav"):
        write_shard(task)

    assert not list((tmp_path / "out").glob("*"))
