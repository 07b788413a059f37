"""Takes a folder; gives a workspace with the features of a tiny corpus, in which a search is a matter of seconds."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from helpers.examples import EMOTIONS, featurize_settings, manifest, network_settings, train_settings
from speech_emotion.config import presets
from speech_emotion.config.base import parse_section
from speech_emotion.config.data import CorpusSettings, SplitSettings
from speech_emotion.config.training import CalibrateSettings
from speech_emotion.config.tuning import TuneSettings
from speech_emotion.core.io import digest_file, write_json
from speech_emotion.data import splits
from speech_emotion.features.extract import write_index
from speech_emotion.features.mfcc import names
from speech_emotion.features.store import RECORDED, SCHEMA
from speech_emotion.tuning.objective import Ground
from speech_emotion.tuning.study import storage_of
from speech_emotion.tuning.worker import Shift

CORPUS = CorpusSettings(name="tiny", kind="folder", source="nowhere")
SPACE: dict[str, Any] = {
    "train.optimizer.learning_rate": {"low": 0.01, "high": 0.5, "log": True},
    "train.optimizer.momentum": {"choices": [0.8, 0.9]},
    "train.network.dropout.lstm": {"low": 0.0, "high": 0.6, "step": 0.2},
}
TUNE: dict[str, Any] = {
    "protocol": "speaker",
    "second": None,
    "trials": 4,
    "minutes": 10.0,
    "seed": 7,
    "sampler": "random",
    "pruner": {"kind": "none", "startup_trials": 1, "warmup_epochs": 1},
    "recipe": {"share": 0.5, "epochs": 2, "members": 1},
    "promotion": {"trials": 0, "share": 0.3},
    "storage": None,
    "heartbeat_seconds": 5,
    "retries": 3,
    "space": SPACE,
}


ONE_FOLD: dict[str, Any] = {"protocol": "random"}
"""For a search that is about trials and processes: a training less a trial."""


def tune_settings(**changes: Any) -> TuneSettings:
    return parse_section("tune", TuneSettings, TUNE | changes)


def make_ground(
    folder: Path,
    *,
    words: int = 8,
    frames: tuple[int, int] = (8, 20),
    network: dict[str, Any] | None = None,
    **changes: Any,
) -> Ground:
    """Write manifest, features and split below `folder`, with paths relative to it; `changes` are of the search."""
    table = manifest(words=words)
    data = folder / "data" / CORPUS.name
    for place in ("manifest", "features", "splits"):
        (data / place).mkdir(parents=True, exist_ok=True)
    table.to_csv(data / "manifest" / "manifest.csv", index=False)
    rng = np.random.default_rng(0)
    _write_store(data / "features", table, rng, voices=(RECORDED, "copy-0"), frames=frames)
    split = SplitSettings(protocols=("speaker", "full"), seed=7, test_share=0.2, validation_share=0.25)
    for protocol in ("speaker", "random"):
        splits.write(data / "splits" / f"{protocol}.csv", splits.make(table, protocol, split))
    return ground(network=network, **changes)


def _write_store(
    folder: Path, table: pd.DataFrame, rng: np.random.Generator, *, voices: tuple[str, ...], frames: tuple[int, int]
) -> None:
    """Write features of which the level says the label, and a little the voice."""
    width = len(names(featurize_settings()))
    shards: list[dict[str, int | str]] = []
    for number, voice in enumerate(voices):
        rows = [
            rng.standard_normal((rng.integers(*frames), width)).astype(np.float32)
            + np.float32(0.5 * EMOTIONS.index(emotion) + 0.1 * number)
            for emotion in table["emotion"]
        ]
        lengths = [len(one) for one in rows]
        columns = [list(table["id"]), [voice] * len(table), lengths, [one.ravel() for one in rows]]
        shard = folder / f"{voice}-00000.parquet"
        pq.write_table(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA), shard)
        entry = {"file": shard.name, "voice": voice, "rows": len(table), "frames": sum(lengths)}
        shards.append(entry | {"sha256": digest_file(shard)})
    write_index(folder, featurize_settings(), shards)


def write_params(folder: Path, **changes: Any) -> None:
    """Write a params.yaml that asks for the search that `ground` returns, with the comments of the real one."""
    asked = ground(**changes)
    path = folder / "params.yaml"
    path.write_bytes((Path(__file__).parent.parent.parent / "params.yaml").read_bytes())
    sections = {name: getattr(asked, name).model_dump(mode="json") for name in ("corpus", "calibrate", "train", "tune")}
    searched = sections["tune"].pop("space")
    write_json(folder / "search.json", sections | {"compute": {"backend": "local", "workers": 1}})
    presets.apply(folder / "search.json", path)
    yaml = YAML()
    yaml.width = 4096
    params = yaml.load(path.read_text())
    params["tune"]["space"] = searched  # a preset can add to what is searched, and take nothing away
    with open(path, "w") as file:
        yaml.dump(params, file)


def shift(ground: Ground, *, trials: int, seconds: float) -> Shift:
    """Return what the one worker of a call is told, whose study is there."""
    return Shift(
        ground=ground,
        recipe=ground.tune.recipe,
        study=ground.study_name(),
        storage=storage_of(ground.tune),
        worker=0,
        neighbours=1,
        trials=trials,
        ends=time.time() + seconds,
        call="alone",
    )


def ground(*, network: dict[str, Any] | None = None, **changes: Any) -> Ground:
    """Return the search in the working folder."""
    settings = train_settings(epochs=3, network=network_settings(**({"lstm": (4,), "dense": (4,)} | (network or {}))))
    return Ground.of(CORPUS, tune_settings(**changes), settings, CalibrateSettings(risk=0.1))
