"""Takes a folder; gives a workspace with the features of a tiny corpus, in which a search is a matter of seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from examples import EMOTIONS, featurize_settings, manifest, network_settings, train_settings
from speech_emotion import splits
from speech_emotion.extraction import write_index
from speech_emotion.files import digest_file
from speech_emotion.settings.base import parse_section
from speech_emotion.settings.corpus import CorpusSettings
from speech_emotion.settings.split import SplitSettings
from speech_emotion.settings.tune import TuneSettings
from speech_emotion.store import SCHEMA
from speech_emotion.tuning.objective import Ground

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
    "heartbeat_seconds": 1,
    "retries": 3,
    "space": SPACE,
}


def tune_settings(**changes: Any) -> TuneSettings:
    return parse_section("tune", TuneSettings, TUNE | changes)


def make_ground(folder: Path, *, words: int = 8, **changes: Any) -> Ground:
    """Write manifest, features and split below `folder`, with paths relative to it; `changes` are of the search."""
    table = manifest(words=words)
    data = folder / "data" / CORPUS.name
    for name in ("manifest", "features", "splits"):
        (data / name).mkdir(parents=True, exist_ok=True)
    table.to_csv(data / "manifest" / "manifest.csv", index=False)
    rng = np.random.default_rng(0)
    labels = [EMOTIONS.index(emotion) for emotion in table["emotion"]]
    frames = [(rng.standard_normal((rng.integers(8, 20), 13)) + 0.5 * label).astype(np.float32) for label in labels]
    columns = [list(table["id"]), [len(one) for one in frames], [one.ravel() for one in frames]]
    shard = data / "features" / "part-00000.parquet"
    pq.write_table(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA), shard)
    entry = {"file": shard.name, "rows": len(table), "frames": sum(map(len, frames)), "sha256": digest_file(shard)}
    write_index(data / "features", featurize_settings(), [entry])
    split = SplitSettings(protocols=("speaker", "full"), seed=7, test_share=0.2, validation_share=0.25)
    splits.write(data / "splits" / "speaker.csv", splits.make(table, "speaker", split))
    return ground(**changes)


def ground(**changes: Any) -> Ground:
    """Return the search in the working folder."""
    settings = train_settings(epochs=3, network=network_settings(lstm=(4,), dense=(4,)))
    return Ground.of(CORPUS, tune_settings(**changes), settings)
