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

RECORDED: Final = "recorded"
"""The voice of an utterance as it was recorded; beside it there may be copies in others."""

SCHEMA: Final = pa.schema(
    [("id", pa.string()), ("voice", pa.string()), ("n_frames", pa.int32()), ("frames", pa.list_(pa.float32()))]
)
"""One row an utterance and voice; `frames` is (n_frames, coefficients) in row-major order. A shard has one voice."""


class FeatureStore:
    """The features of a corpus, by utterance id.

    Parameters
    ----------
    folder : Path
        What featurize wrote.

    Attributes
    ----------
    settings : FeaturizeSettings
    names : tuple of str
        What each number of a frame is.
    voices : tuple of str
        In which the utterances are there, in alphabetical order.
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
            self.names = tuple(map(str, content["names"]))
            self.spec_digest = str(content["spec_digest"])
            self._shards = [(str(shard["voice"]), folder / shard["file"]) for shard in content["shards"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{index}: is missing or damaged. Run `dvc repro featurize`.") from None
        if self.spec_digest != spec_digest(self.settings):
            raise UserError(f"{index}: was written by another version of the feature code. Run `dvc repro featurize`.")
        self.voices = tuple(sorted({voice for voice, _ in self._shards}))
        self.digest = digest_file(index)

    @property
    def coefficients(self) -> int:
        """Numbers a frame."""
        return len(self.names)

    def read(self, ids: Sequence[str], voice: str = RECORDED) -> list[np.ndarray]:
        """Return the frames of utterances in a voice, in the order asked for.

        Returns
        -------
        list of np.ndarray [shape=(t, coefficients)], float32

        Raises
        ------
        UserError
            An utterance is not in the store, in that voice.
        """
        wanted = set(ids)
        found = {name: frames for name, frames in self.utterances(voice) if name in wanted}
        missing = sorted(wanted - found.keys())
        if missing:
            raise UserError(f"{len(missing)} utterances have no features, the first is {missing[0]}. Run `dvc repro`.")
        return [found[name] for name in ids]

    def utterances(self, voice: str = RECORDED) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (id, frames [shape=(t, coefficients)]) of every utterance in a voice, shard by shard."""
        for _, shard in (one for one in self._shards if one[0] == voice):
            table = pq.read_table(shard, schema=SCHEMA)
            values = table["frames"].combine_chunks()
            flat = values.values.to_numpy(zero_copy_only=False)
            ends = values.offsets.to_numpy()
            for name, start, end in zip(table["id"].to_pylist(), ends[:-1], ends[1:], strict=True):
                yield name, flat[start:end].reshape(-1, self.coefficients)
