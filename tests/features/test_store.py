from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
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


def build(raw: Path, folder: Path, workers: int) -> FeatureStore:
    ids = [f"utterance-{number}" for number in range(COUNT)]
    settings = featurize_settings()
    tasks = shard_tasks(ids, [f"{n}.wav" for n in range(COUNT)], raw=raw, folder=folder, settings=settings)
    write_index(folder, settings, list(parallel_map(write_shard, tasks, workers=workers)))
    return FeatureStore(folder)


def test_frames_come_back_as_they_were_computed_in_the_order_asked_for(raw: Path, tmp_path: Path) -> None:
    store = build(raw, tmp_path, 1)
    extractor = Extractor(featurize_settings())

    frames = store.read(["utterance-130", "utterance-2"])

    for number, one in zip([130, 2], frames, strict=True):
        samples = soundfile.read(raw / f"{number}.wav", dtype="float32")[0]
        np.testing.assert_allclose(one, extractor(samples), atol=1e-5)


def test_the_folder_is_read_as_it_lies_by_whoever_reads_parquet(raw: Path, tmp_path: Path) -> None:
    build(raw, tmp_path, 1)

    table = pq.read_table(tmp_path)

    assert sorted(table["id"].to_pylist()) == sorted(f"utterance-{number}" for number in range(COUNT))


def test_frames_on_disk_are_those_in_memory_and_leave_no_file(raw: Path, tmp_path: Path) -> None:
    store = build(raw, tmp_path / "store", 1)
    ids = ["utterance-130", "utterance-2", "utterance-40"]

    stored = store.read(ids, scratch=tmp_path / "scratch")

    for one, other in zip(stored, store.read(ids), strict=True):
        np.testing.assert_array_equal(one, other)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_fewer_cepstra_are_served_as_a_new_extraction_would_give_them(raw: Path, tmp_path: Path) -> None:
    store = build(raw, tmp_path, 1)
    few = featurize_settings(n_mfcc=4)

    narrow = store.narrowed(few)

    assert narrow.names == names(few)
    assert narrow.spec_digest == spec_digest(few)
    [one] = narrow.read(["utterance-2"])
    samples = soundfile.read(raw / "2.wav", dtype="float32")[0]
    np.testing.assert_allclose(one, Extractor(few)(samples), atol=1e-4)
    assert store.read(["utterance-2"])[0].shape[1] == store.coefficients > narrow.coefficients


@pytest.mark.parametrize("changes", [{"n_mfcc": 30}, {"hop_length": 100}, {"c0": False}])
def test_another_specification_is_not_served(raw: Path, tmp_path: Path, changes: dict) -> None:
    with pytest.raises(UserError, match="do not contain those that the model needs"):
        build(raw, tmp_path, 1).narrowed(featurize_settings(**changes))


def test_bytes_do_not_depend_on_the_number_of_workers(raw: Path, tmp_path: Path) -> None:
    build(raw, tmp_path / "one", 1)
    build(raw, tmp_path / "two", 2)

    assert digest_folder(tmp_path / "one") == digest_folder(tmp_path / "two")


def test_an_utterance_without_features_is_named(raw: Path, tmp_path: Path) -> None:
    store = build(raw, tmp_path / "store", 1)

    for scratch in (None, tmp_path / "scratch"):
        with pytest.raises(UserError, match="1 utterances have no features, the first is nobody"):
            store.read(["utterance-1", "nobody"], scratch=scratch)


def test_a_folder_without_features_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"features\.json: is missing or damaged. Run `dvc repro featurize`"):
        FeatureStore(tmp_path)


def test_a_recording_that_is_gone_bad_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("this is no recording")
    task = shard_tasks(["x"], ["bad.wav"], raw=tmp_path, folder=tmp_path / "out", settings=featurize_settings())[0]

    with pytest.raises(UserError, match=r"bad\.wav"):
        write_shard(task)

    assert not list((tmp_path / "out").glob("*"))
