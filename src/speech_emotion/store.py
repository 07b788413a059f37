"""Takes the folder that featurize wrote, sharded Parquet; gives the frames of utterances by their ids."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from speech_emotion.errors import UserError
from speech_emotion.features import spec_digest
from speech_emotion.files import digest_file
from speech_emotion.settings.featurize import FeaturizeSettings

INDEX: Final = "features.json"

SCHEMA: Final = pa.schema([("id", pa.string()), ("n_frames", pa.int32()), ("frames", pa.list_(pa.float32()))])
"""One row an utterance; `frames` is (n_frames, coefficients) in row-major order."""


class FeatureStore:
    """The features of a corpus, by utterance id.

    Parameters
    ----------
    folder : Path
        What featurize wrote.

    Attributes
    ----------
    settings : FeaturizeSettings
    coefficients : int
        Numbers a frame.
    digest : str
        SHA-256 over the specification and every shard.

    Raises
    ------
    UserError
        The folder is not a feature store, or not one of this version.
    """

    def __init__(self, folder: Path) -> None:
        index = folder / INDEX
        try:
            content = json.loads(index.read_text(encoding="utf-8"))
            self.settings = FeaturizeSettings.model_validate_json(json.dumps(content["settings"]))
            self.coefficients = int(content["coefficients"])
            self.spec_digest = str(content["spec_digest"])
            self._shards = [folder / shard["file"] for shard in content["shards"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{index}: is missing or damaged. Run `dvc repro featurize`.") from None
        if self.spec_digest != spec_digest(self.settings):
            raise UserError(f"{index}: was written by another version of the feature code. Run `dvc repro featurize`.")
        self.digest = digest_file(index)

    def read(self, ids: Sequence[str]) -> list[np.ndarray]:
        """Return the frames of utterances, in the order asked for.

        Returns
        -------
        list of np.ndarray [shape=(t, coefficients)], float32

        Raises
        ------
        UserError
            An utterance is not in the store.
        """
        wanted = set(ids)
        found = {name: frames for name, frames in self if name in wanted}
        missing = sorted(wanted - found.keys())
        if missing:
            raise UserError(f"{len(missing)} utterances have no features, the first is {missing[0]}. Run `dvc repro`.")
        return [found[name] for name in ids]

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (id, frames [shape=(t, coefficients)]), shard by shard."""
        for shard in self._shards:
            table = pq.read_table(shard, schema=SCHEMA)
            values = table["frames"].combine_chunks()
            flat = values.values.to_numpy(zero_copy_only=False)
            ends = values.offsets.to_numpy()
            for name, start, end in zip(table["id"].to_pylist(), ends[:-1], ends[1:], strict=True):
                yield name, flat[start:end].reshape(-1, self.coefficients)
