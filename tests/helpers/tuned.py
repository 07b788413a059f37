"""Make a workspace with the features of a tiny corpus, in which a search takes seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.entities import Run
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
from speech_emotion.tracking.connection import connect, locate
from speech_emotion.tuning.objective import SearchInputs

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
    "recipe": {"share": 0.5, "epochs": 2},
    "promotion": {"trials": 0, "share": 0.3},
    "storage": None,
    "heartbeat_seconds": 5,
    "retries": 3,
    "space": SPACE,
}
ONE_FOLD: dict[str, Any] = {"protocol": "random"}
"""For a search that tests trials and processes: one training per trial instead of two."""


def tune_settings(**changes: Any) -> TuneSettings:
    return parse_section("tune", TuneSettings, TUNE | changes)


def inputs(**changes: Any) -> SearchInputs:
    """Return the search in the working folder; `changes` are of the section `tune`."""
    settings = train_settings(epochs=3, network=network_settings(lstm=(4,), dense=(4,)))
    return SearchInputs(CORPUS, tune_settings(**changes), settings, CalibrateSettings(risk=0.1))


def make_inputs(folder: Path, *, words: int = 8) -> SearchInputs:
    """Write features and splits below `folder`, and return the search in it."""
    table = manifest(words=words)
    data = folder / "data" / CORPUS.name
    for place in ("features", "splits"):
        (data / place).mkdir(parents=True, exist_ok=True)
    _write_features(data / "features", table)
    split = SplitSettings(protocols=("speaker", "full"), seed=7, test_share=0.2, validation_share=0.25)
    for protocol in ("speaker", "random"):
        splits.write(data / "splits" / f"{protocol}.csv", splits.make(table, protocol, split))
    return inputs()


def _write_features(folder: Path, table: pd.DataFrame) -> None:
    """Write features whose level depends on the label, and slightly on the copy."""
    rng = np.random.default_rng(0)
    width = len(names(featurize_settings()))
    shards: list[dict[str, int | str]] = []
    for number, copy in enumerate((RECORDED, "copy-0")):
        rows = [
            rng.standard_normal((rng.integers(8, 20), width)).astype(np.float32)
            + np.float32(0.5 * EMOTIONS.index(emotion) + 0.1 * number)
            for emotion in table["emotion"]
        ]
        lengths = [len(one) for one in rows]
        columns = [list(table["id"]), [copy] * len(table), lengths, [one.ravel() for one in rows]]
        shard = folder / f"{copy}-00000.parquet"
        pq.write_table(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA), shard)
        entry = {"file": shard.name, "version": copy, "rows": len(table), "frames": sum(lengths)}
        shards.append(entry | {"sha256": digest_file(shard)})
    write_index(folder, featurize_settings(), shards)


def write_params(folder: Path, **changes: Any) -> None:
    """Write a params.yaml for the search that `inputs` returns, with the comments of the real one."""
    search = inputs(**changes)
    path = folder / "params.yaml"
    path.write_bytes((Path(__file__).parent.parent.parent / "params.yaml").read_bytes())
    names = ("corpus", "calibrate", "train", "tune")
    sections = {name: getattr(search, name).model_dump(mode="json") for name in names}
    space = sections["tune"].pop("space")
    write_json(folder / "search.json", sections | {"compute": {"backend": "local", "workers": 1}})
    presets.apply(folder / "search.json", path)
    yaml = YAML()
    yaml.width = 4096
    params = yaml.load(path.read_text())
    params["tune"]["space"] = space  # a preset can add to the space, but remove nothing
    with open(path, "w") as file:
        yaml.dump(params, file)


def trial_runs() -> dict[str, Run]:
    """Return the runs of all trials by name."""
    client = connect(locate())
    found = client.get_experiment_by_name("speech-emotion-tiny-tuning")
    assert found is not None
    listed = client.search_runs([found.experiment_id], "tags.kind = 'trial'")
    named = {run.info.run_name: run for run in listed}
    assert len(named) == len(listed), "two runs have one name"
    return named
